"""The diffusion model of transitions: rows go in, a model learns them, new rows come out.

To understand the model, read ``norm/`` (rows are normalised), ``denoiser_network.py`` (the
network F), ``samplers.py`` (schedules and solvers, which are functions),
``elucidated_diffusion.py`` (EDM's preconditioning, loss and sampling around F), ``likelihood.py``,
then ``utils.py`` (transitions to rows and back) and ``model_io.py`` (a model in a file describes
itself). To follow one training step, open ``training/trainer.py``, ``training/step.py``,
``elucidated_diffusion.py`` and ``denoiser_network.py``.

``conditioning`` has what a model can be asked for, and ``successors`` the regressions of what
follows an observation and an action. Three packages stand on the model and do not know each other:
``training`` fits it, ``generation`` samples from it, ``fidelity`` says how good the samples are.
Two commands join them: ``train_diffuser.py`` trains, samples and reports; ``evaluate_samples.py``
compares in depth.
"""

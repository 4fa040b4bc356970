"""Here synthetic transitions are measured, each time beside the same measure of real ones.

Read ``report.py`` first: the scores that a run reports, and their table. They come from
``similarity.py`` (marginals and correlations) and ``distances.py`` (sliced Wasserstein).
``held_out.py`` finds the real rows that a model did not see. ``assessment.py`` is the full report
of ``evaluate_samples.py``; it adds ``dynamics.py`` (the simulator takes each transition again) and
``novelty.py`` (distances to the training rows). ``likelihood.py`` measures a model without
sampling, ``baselines.py`` makes rows by other means, ``plots.py`` draws the pictures.
"""

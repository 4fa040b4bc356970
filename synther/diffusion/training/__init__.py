"""Here the diffusion model is trained, from rows to a checkpoint.

Read ``step.py`` first: one training step (loss, gradient, clipped AdamW, average of the weights)
and the state that the next step depends on. ``trainer.py`` is the loop around it, with log records,
checkpoints and resuming. ``optimizer.py`` is AdamW, ``row_source.py`` draws the batches,
``run_files.py`` names and keeps the files. ``redq_trainer.py`` trains on the replay buffer of an
online agent instead of a data set.
"""

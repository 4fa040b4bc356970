"""Offline reinforcement learning: four algorithms learn from real or synthetic transitions.

An algorithm is one file in ``algorithms/``, which reads from top to bottom: configuration,
networks, losses, update, main. What a run of any of them needs is in ``shared/``: read
``runner.py`` first, which puts a run together, then ``buffer.py``, where its batches come from.
The training loop is :mod:`synther.learning.loop`. ``yaml/`` holds the settings of 96 D4RL runs.
"""

"""The parts that every reinforcement-learning agent needs, offline, online and from pixels.

Agents are stacks: their networks have leading axes ``[seeds, ...]``, so that N seeds of an
experiment train in one process. Read ``learner.py`` first (networks, optimisers, steps of these on
losses), then ``loop.py``, the training loop of everything that learns from a fixed source of
batches; ``sources.py`` and ``replay.py`` are where batches come from, ``streams.py`` where random
numbers do. ``nets.py`` and ``relu_mlp.py`` are the stacked networks, ``graphs.py`` replays updates
as CUDA graphs, and ``stored_actor.py`` reads the policy of an online run back.
"""

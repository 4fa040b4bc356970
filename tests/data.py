"""Data that tests share."""

import numpy as np

from synther.transitions import Transitions


def random_transitions(
    rows: int = 64, observation_dim: int = 3, action_dim: int = 2, seed: int = 0
) -> Transitions:
    """Transitions of random numbers, about one in ten of them terminal."""
    rng = np.random.default_rng(seed)
    return Transitions(
        observations=rng.normal(size=(rows, observation_dim)),
        actions=rng.uniform(-1, 1, size=(rows, action_dim)),
        rewards=rng.normal(size=rows),
        next_observations=rng.normal(size=(rows, observation_dim)),
        terminals=rng.random(rows) < 0.1,
    )

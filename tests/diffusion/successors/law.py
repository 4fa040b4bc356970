"""A law of one step in numpy float64, with all that an ensemble has to tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synther.transitions import Transitions

KINDS = ("exact", "noisy", "exact", "flag", "left", "noisy", "flag")
"""Of the five columns of a next observation, of the reward and of the terminal."""


@dataclass(frozen=True)
class Law:
    """What the law says of the rows that were drawn with it: the mean and the standard deviation of
    next observation and reward ``[N, 6]``, and the terminal ``[N]``."""

    rows: Transitions
    mean: NDArray[np.float64]
    noise: NDArray[np.float64]
    terminals: NDArray[np.bool_]


def draw(count: int, seed: int) -> Law:
    """Observations: a position in [-1, 1], from where an episode ends; a column whose noise depends
    on the position; a constant; a flag, which is whether the step goes right; a die."""
    rng = np.random.default_rng(seed)
    position, other = rng.uniform(-1, 1, count), rng.normal(size=count)
    flag, die = rng.integers(0, 2, count), rng.integers(0, 6, count)
    actions = rng.uniform(-1, 1, (count, 2))
    observations = np.stack([position, other, np.full(count, 3.0), flag, die], axis=1)
    following = position + 0.2 * actions[:, 0]
    right = actions[:, 0] > 0
    reward = position * actions[:, 1]
    new_die = rng.integers(0, 6, count)
    mean = np.stack([following, 0.5 * other, observations[:, 2], right, new_die, reward], axis=1)
    noise = np.zeros_like(mean)
    noise[:, 1] = 0.1 + 0.4 * np.abs(position)
    noise[:, 5] = 0.2
    drawn = mean + noise * rng.normal(size=mean.shape)
    terminals = np.abs(following) > 1
    rows = Transitions(observations, actions, drawn[:, 5], drawn[:, :5], terminals)
    return Law(rows, mean, noise, terminals)

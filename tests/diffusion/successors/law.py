"""A law of one step in numpy float64, with all that an ensemble has to tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synther.transitions import Transitions

Array = NDArray[np.float64]

KINDS = ("exact", "noisy", "exact", "flag", "left", "noisy", "flag")
"""Of the five columns of a next observation, of the reward and of the terminal."""


@dataclass(frozen=True)
class Following:
    """What follows: mean and standard deviation of next observation and reward ``[N, 6]``, and the
    terminal ``[N]``."""

    mean: Array
    noise: Array
    terminals: NDArray[np.bool_]


def begin(uniform: Array) -> tuple[Array, Array, Array]:
    """Observations ``[N, 5]``, actions ``[N, 2]`` and what dice show next ``[N]``, from independent
    uniform numbers ``[N, 8]``.

    The columns of an observation: a position in [-1, 1], where episodes end; one that keeps its
    half, with noise that depends on the position; a constant; a flag, which is whether the last
    step went right; a die.
    """
    position, other, flag, die, left, right, new_die, _ = uniform.T
    constant = np.full(len(uniform), 3.0)
    columns = [2 * position - 1, 4 * other - 2, constant, flag > 0.5, np.floor(6 * die)]
    actions = np.stack([2 * left - 1, 2 * right - 1], axis=1)
    return np.stack(columns, axis=1).astype(float), actions, np.floor(6 * new_die)


def follow(observations: Array, actions: Array, die: Array) -> Following:
    """The law."""
    position, other, constant = observations[:, :3].T
    following = position + 0.2 * actions[:, 0]
    right = actions[:, 0] > 0
    reward = position * actions[:, 1]
    mean = np.stack([following, 0.5 * other, constant, right, die, reward], axis=1)
    noise = np.zeros_like(mean)
    noise[:, 1] = 0.1 + 0.4 * np.abs(position)
    noise[:, 5] = 0.2
    return Following(mean, noise, np.abs(following) > 1)


def draw(count: int, seed: int) -> tuple[Transitions, Following]:
    """Rows that obey the law, and what it says of them."""
    rng = np.random.default_rng(seed)
    observations, actions, die = begin(rng.random((count, 8)))
    law = follow(observations, actions, die)
    drawn = law.mean + law.noise * rng.normal(size=law.mean.shape)
    return Transitions(observations, actions, drawn[:, 5], drawn[:, :5], law.terminals), law

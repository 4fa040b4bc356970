"""A data set whose law is known: what the mean and the noise of a next row are, in closed form.

    python3 benchmarks/known_law.py --rows 40000 --seed 0 --output known_law.npz

A puck on a spring, pushed by two thrusters, bounces off a wall and warms up. It has what data of
agents have and simulators lack: noise, and noise that depends on state and action.

- Observation ``[position, velocity, temperature, contact]``; contact, a flag, is whether the
  position is below ``WALL``.
- Action ``[push, brake]`` in [-1, 1], of a noisy linear policy that is clipped: about a third of
  the rows have an action at its bound.
- The next position, velocity and temperature, and the reward, are Gaussian given observation and
  action: linear in them, but that the wall pushes back while there is contact, and that heat is the
  square of the push. Their standard deviations grow with speed and are larger at the wall.
- The next flag follows from the next position. The transition is terminal where the puck is beyond
  ``EDGE``, on the open side, or, in one row of a hundred, at random. An episode that has
  ``TIME_LIMIT`` steps ends as a time-out.

The functions here give the exact mean and standard deviation of each, so that samples of a model
can be measured against the law itself: :func:`residuals`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from synther.transitions import Transitions

Array = NDArray[np.float64]

SOURCE = "known law"
"""In the metadata of its rows."""
WALL, EDGE, TIME_LIMIT = -0.2, 1.2, 200
BREAKDOWN = 0.01
"""Probability of a terminal at random."""
STEP = 0.1
NOISE = np.array([0.02, 0.08, 0.05])
"""Of position, velocity and temperature, at rest and away from the wall."""


class Moments(NamedTuple):
    """Means, or standard deviations, given observation and action.

    Args:
        next_observations: ``[N, 4]``.
        rewards: ``[N]``.
        terminals: ``[N]``; the mean is the probability of a terminal.
    """

    next_observations: Array
    rewards: Array
    terminals: Array


def conditional_mean(observations: Array, actions: Array) -> Moments:
    """Of rows ``[N, 4]`` and ``[N, 2]``."""
    mean, _ = _gaussian(observations, actions)
    probability = _probabilities(observations, actions)
    rewards = _mean_reward(observations, actions)
    return Moments(np.column_stack([mean, probability[0]]), rewards, probability[1])


def conditional_std(observations: Array, actions: Array) -> Moments:
    """Of rows ``[N, 4]`` and ``[N, 2]``; of a flag with probability p, ``sqrt(p (1 - p))``."""
    _, std = _gaussian(observations, actions)
    contact, terminal = _probabilities(observations, actions)
    return Moments(
        np.column_stack([std, np.sqrt(contact * (1 - contact))]),
        _reward_std(observations, actions),
        np.sqrt(terminal * (1 - terminal)),
    )


def residuals(transitions: Transitions) -> dict[str, Array]:
    """What position, velocity, temperature and reward differ from their conditional means by, in
    conditional standard deviations, ``[N]`` each: standard normal for rows of the law."""
    observations = transitions.observations.astype(np.float64)
    actions = transitions.actions.astype(np.float64)
    mean, std = (moment(observations, actions) for moment in (conditional_mean, conditional_std))
    away = (transitions.next_observations - mean.next_observations)[:, :3]
    found = dict(
        zip(
            ("position", "velocity", "temperature"),
            (away / std.next_observations[:, :3]).T,
            strict=True,
        )
    )
    return {**found, "reward": (transitions.rewards - mean.rewards) / std.rewards}


def inconsistent_flags(transitions: Transitions) -> float:
    """Share of the rows where a contact flag, of either observation, is not what the position
    beside it says."""
    both = (transitions.observations, transitions.next_observations)
    wrong = [(rows[:, 0] < WALL) != (rows[:, 3] > 0.5) for rows in both]
    return float(np.mean(wrong[0] | wrong[1]))


def collect(rows: int, seed: int = 0) -> Transitions:
    """That many transitions of 64 pucks that play side by side."""
    rng = np.random.default_rng(seed)
    pucks = 64
    state, age = _start(rng, pucks), np.zeros(pucks, int)
    parts = []
    for _ in range(-(-rows // pucks)):
        actions = _policy(rng, state)
        mean, std = _gaussian(state, actions)
        after = mean + std * rng.normal(size=mean.shape)
        after = np.column_stack([after, after[:, 0] < WALL])
        rewards = _mean_reward(state, actions)
        rewards = rewards + _reward_std(state, actions) * rng.normal(size=pucks)
        terminals = (after[:, 0] > EDGE) | (rng.random(pucks) < BREAKDOWN)
        parts.append((state, actions, rewards, after, terminals))
        age += 1
        over = terminals | (age >= TIME_LIMIT)
        state = np.where(over[:, None], _start(rng, pucks), after)
        age[over] = 0
    arrays = [np.concatenate(part)[:rows].astype(np.float32) for part in zip(*parts, strict=True)]
    command = f"python3 benchmarks/known_law.py --rows {rows} --seed {seed}"
    return Transitions(*arrays, metadata={"source": SOURCE, "command": command})


def _start(rng: np.random.Generator, count: int) -> Array:
    state = rng.normal(size=(count, 3)) * [0.5, 0.5, 0.2]
    return np.column_stack([state, state[:, 0] < WALL])


def _policy(rng: np.random.Generator, state: Array) -> Array:
    gains = np.array([[-0.3, -0.4, 0.2, 0.0], [0.0, 0.8, 0.3, 0.3]])
    return np.clip(state @ gains.T + 0.7 * rng.normal(size=(len(state), 2)), -1, 1)


def _gaussian(observations: Array, actions: Array) -> tuple[Array, Array]:
    """Mean and standard deviation ``[N, 3]`` of the next position, velocity and temperature."""
    position, velocity, temperature = observations[:, :3].T
    push, brake = actions.T
    in_contact = position < WALL
    force = 3 * push - 1.0 * position - 0.5 * velocity * (1 + brake)
    force = force + np.where(in_contact, 20 * (WALL - position), 0.0)
    mean = np.column_stack(
        [
            position + STEP * velocity,
            velocity + STEP * force,
            temperature + STEP * (push**2 - temperature),
        ]
    )
    louder = (1 + 0.5 * np.abs(velocity)) * np.where(in_contact, 2.0, 1.0)
    return mean, NOISE * louder[:, None]


def _mean_reward(observations: Array, actions: Array) -> Array:
    mean: Array = observations[:, 0] - 0.1 * (actions**2).sum(axis=1)
    return mean


def _reward_std(observations: Array, actions: Array) -> Array:
    std: Array = 0.1 * (1 + np.abs(actions[:, 0]) + observations[:, 3])
    return std


def _probabilities(observations: Array, actions: Array) -> tuple[Array, Array]:
    """Of contact at the next position, and of a terminal, ``[N]`` each."""
    mean, std = _gaussian(observations, actions)
    contact = ndtr((WALL - mean[:, 0]) / std[:, 0])
    beyond = ndtr((mean[:, 0] - EDGE) / std[:, 0])
    return contact, beyond + (1 - beyond) * BREAKDOWN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    data = collect(arguments.rows, arguments.seed)
    print(f"{len(data)} rows, {data.terminals.mean():.2%} terminal -> {arguments.output}")
    data.save(arguments.output)


if __name__ == "__main__":
    main()

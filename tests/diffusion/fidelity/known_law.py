"""Transitions of a known law: linear motion, a switch as contacts have it, noise that grows with
the speed, a flag, a constant column and bounded actions."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from synther.transitions import Transitions

NOISE = 0.1  # standard deviation of the reward's noise


def observations_of(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Two modes of position, a velocity, a flag, a constant; ``[rows, 4]``."""
    mode = rng.random(rows) < 0.3
    position = rng.normal(np.where(mode, 4.0, 0.0), 0.7)
    velocity = rng.normal(0, 1 + 0.5 * mode)
    flag = rng.random(rows) < 0.25
    return np.stack([position, velocity, flag, np.full(rows, 9.81)], axis=1)


def mean_step(observations: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the law expects: differences ``[N, 4]`` and rewards ``[N]``."""
    position, velocity, flag = observations[:, 0], observations[:, 1], observations[:, 2]
    push = actions[:, 0] * (1 + flag)
    bounce = np.where(position + 0.1 * velocity < 0, -1.5 * np.minimum(velocity, 0), 0)
    nothing = np.zeros_like(position)
    differences = np.stack([0.1 * velocity, 0.2 * push + bounce, nothing, nothing], axis=1)
    return differences, position - 0.1 * (actions**2).sum(axis=1)


def noise_scale(observations: np.ndarray) -> np.ndarray:
    """Standard deviation of the velocity's noise ``[N]``: it grows with the speed."""
    return 0.05 + 0.1 * np.abs(observations[:, 1])


TERMINAL_SPEED = 2.6


class ExactLaw:
    """The law itself, where a regression is expected."""

    def __init__(self) -> None:
        self.column_names = [*(f"next_observations[{i}]" for i in range(4)), "rewards", "terminals"]
        self.smooth = [0, 1, 3, 4]
        self.noisy = [1, 3]  # of the smooth ones: the velocity and the reward
        self.values = torch.tensor([[0.0], [1.0]]).expand(2, 6)  # of the flags

    def columns_of(self, kind: str) -> list[int]:
        return {"flag": [2, 5]}[kind]

    def predict(self, observations: Tensor, actions: Tensor) -> SimpleNamespace:
        states = observations.double().numpy()
        differences, rewards = mean_step(states, actions.double().numpy())
        mean = np.concatenate([(states + differences)[:, [0, 1, 3]], rewards[:, None]], axis=1)
        return SimpleNamespace(mean=torch.from_numpy(mean))

    def flag_probabilities(
        self, observations: Tensor, actions: Tensor, successors: Tensor
    ) -> Tensor:
        return torch.stack([observations[:, 2], successors[:, 1].abs() > TERMINAL_SPEED], dim=1)


def known_law(rows: int, seed: int, noise: float = 1.0, mode_share: float = 1.0) -> Transitions:
    """Rows of the law, with ``noise`` times its noise, and the second mode thinned out to
    ``mode_share`` of what it is."""
    rng = np.random.default_rng(seed)
    observations = observations_of(rng, 3 * rows + 100)
    kept = (observations[:, 0] < 2) | (rng.random(len(observations)) < mode_share)
    observations = observations[kept][:rows]
    actions = np.tanh(rng.normal(0, 1.2, size=(rows, 2))).round(6)
    differences, rewards = mean_step(observations, actions)
    differences[:, 1] += noise * noise_scale(observations) * rng.normal(size=rows)
    following = observations + differences
    return Transitions(
        observations=observations,
        actions=actions,
        rewards=rewards + noise * NOISE * rng.normal(size=rows),
        next_observations=following,
        terminals=np.abs(following[:, 1].astype(np.float32)) > TERMINAL_SPEED,
    )

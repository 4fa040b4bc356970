"""States and rewards are normalised by statistics of the real data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.learning.sources import RowFunction
from synther.transitions import FloatArray, TransitionError, TransitionLayout, Transitions

MAX_EPISODE_STEPS = 1000
STD_OFFSET = 1e-3


@dataclass(frozen=True)
class StateNormalizer:
    """``(state - mean) / std``, with ``mean`` and ``std`` float32 ``[O]``."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, dataset: Transitions) -> StateNormalizer:
        """Fit to a data set's observations; 1e-3 is added to the standard deviation."""
        observations = dataset.observations
        mean = observations.mean(axis=0, dtype=np.float64)
        std = observations.std(axis=0, dtype=np.float64) + STD_OFFSET
        return cls(torch.from_numpy(mean).float(), torch.from_numpy(std).float())

    def __call__(self, states: Tensor) -> Tensor:
        """States ``[..., O]``, normalised."""
        return (states - self.mean.to(states)) / self.std.to(states)


@dataclass(frozen=True)
class RewardNormalizer:
    """``(reward - shift) * scale``."""

    shift: float
    scale: float

    @classmethod
    def of(cls, dataset: Transitions, env: str) -> RewardNormalizer:
        """Rewards of antmaze lose 1; others are multiplied by ``1000 / (max - min return)``.

        As CORL counts them: an episode ends at a terminal or after 1000 rows, and the part that
        the data set ends with is left out.

        Raises:
            TransitionError: no two episodes of different return.
        """
        if "antmaze" in env.lower():
            return cls(1.0, 1.0)
        returns = episode_returns(dataset.rewards, dataset.terminals, MAX_EPISODE_STEPS)
        spread = float(np.ptp(returns)) if len(returns) else 0.0
        if spread == 0:
            raise TransitionError(
                f"{dataset.source}: {len(returns)} whole episodes whose returns do not differ, so "
                "rewards cannot be normalised by them; use --normalize_reward false"
            )
        return cls(0.0, MAX_EPISODE_STEPS / spread)

    def __call__(self, rewards: Tensor) -> Tensor:
        """Rewards of any shape, normalised."""
        return (rewards - self.shift) * self.scale


def episode_returns(
    rewards: FloatArray, terminals: FloatArray, max_steps: int
) -> NDArray[np.float64]:
    """Returns of the whole episodes, each ended by a terminal or by its ``max_steps``-th row."""
    rows = np.arange(len(rewards))
    is_terminal = terminals > 0
    last_terminal = np.maximum.accumulate(np.where(is_terminal, rows, -1))
    start = np.concatenate([[-1], last_terminal[:-1]]) + 1  # of the stretch without a terminal
    ends = np.flatnonzero(is_terminal | ((rows - start + 1) % max_steps == 0))
    totals = np.concatenate([[0.0], np.cumsum(rewards, dtype=np.float64)])
    return np.diff(totals[np.concatenate([[0], ends + 1])])


def row_function(
    layout: TransitionLayout, states: StateNormalizer | None, rewards: RewardNormalizer | None
) -> RowFunction:
    """Both normalisers as one function of rows, which it changes in place."""

    def normalise(rows: Tensor) -> Tensor:
        columns = layout.split(rows)
        if states is not None:
            columns["observations"].copy_(states(columns["observations"]))
            columns["next_observations"].copy_(states(columns["next_observations"]))
        if rewards is not None:
            columns["rewards"].copy_(rewards(columns["rewards"]))
        return rows

    return normalise

"""States and rewards are normalised by statistics of the real data set, actions by their bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synther.action_bounds import ActionBounds
from synther.datasets.episodes import episode_returns
from synther.learning.sources import RowFunction
from synther.transitions import TransitionError, TransitionLayout, Transitions

NORMALISED_SPREAD = 1000.0
"""Between the largest and the smallest return of an episode, once rewards are normalised."""
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
    def of(
        cls, dataset: Transitions, env: str, max_episode_steps: int | None = None
    ) -> RewardNormalizer:
        """Rewards of antmaze lose 1, where they are 1 and 0 as D4RL has them (OGBench has 0 and
        -1); others are multiplied by ``1000 / (max - min return)``.

        The returns are those of the data's own episodes (see
        :func:`synther.datasets.episodes.episode_returns`), or, of a random selection of rows, those
        of the data that they were selected from: ``return_range`` in the metadata, as
        ``sweeps/subset.py`` writes it. CORL counts 1000 rows where no terminal comes first,
        whatever the environment's limit.

        Args:
            dataset: the real data.
            env: the environment of the data.
            max_episode_steps: its time limit, where it has one.

        Raises:
            TransitionError: it cannot be known where episodes end, or there are no two of different
                return.

        Warns:
            UserWarning: rows of the episodes seem to be missing, and with them their rewards.
        """
        if "antmaze" in env.lower():
            return cls(1.0 if (dataset.rewards >= 0).all() else 0.0, 1.0)
        returns = dataset.metadata.get("return_range")
        try:
            if returns is None:
                returns = episode_returns(dataset, max_episode_steps)
        except TransitionError as error:
            raise TransitionError(f"{error}; use --normalize_reward false") from error
        spread = float(np.ptp(returns)) if len(returns) else 0.0
        if spread == 0:
            raise TransitionError(
                f"{dataset.source}: {len(returns)} whole episodes whose returns do not differ, so "
                "rewards cannot be normalised by them; use --normalize_reward false"
            )
        return cls(0.0, NORMALISED_SPREAD / spread)

    def __call__(self, rewards: Tensor) -> Tensor:
        """Rewards of any shape, normalised."""
        return (rewards - self.shift) * self.scale


@dataclass(frozen=True)
class ActionNormalizer:
    """Actions in their own units -> in ``[-max_action, max_action]``, in which agents act:
    ``(action - middle) / half * max_action``, with ``middle`` and ``half`` float32 ``[A]``."""

    middle: Tensor
    half: Tensor
    max_action: float

    @classmethod
    def of(cls, bounds: ActionBounds | None, max_action: float = 1.0) -> ActionNormalizer | None:
        """The map from these bounds; None where nothing has to be done, or no bounds are known."""
        if bounds is None or (bounds.is_unit and max_action == 1):
            return None
        low, high = (torch.from_numpy(side).double() for side in (bounds.low, bounds.high))
        return cls(((low + high) / 2).float(), ((high - low) / 2).float(), max_action)

    def __call__(self, actions: Tensor) -> Tensor:
        """Actions ``[..., A]``, normalised."""
        scaled = (actions - self.middle.to(actions)) / self.half.to(actions)
        return scaled if self.max_action == 1 else scaled * self.max_action

    def inverse(self, actions: Tensor) -> Tensor:
        """Normalised actions ``[..., A]``, in their own units."""
        return actions / self.max_action * self.half.to(actions) + self.middle.to(actions)


def row_function(
    layout: TransitionLayout,
    states: StateNormalizer | None,
    rewards: RewardNormalizer | None,
    actions: ActionNormalizer | None = None,
) -> RowFunction:
    """The normalisers as one function of rows, which it changes in place."""

    def normalise(rows: Tensor) -> Tensor:
        columns = layout.split(rows)
        if actions is not None:
            columns["actions"].copy_(actions(columns["actions"]))
        if states is not None:
            columns["observations"].copy_(states(columns["observations"]))
            columns["next_observations"].copy_(states(columns["next_observations"]))
        if rewards is not None:
            columns["rewards"].copy_(rewards(columns["rewards"]))
        return rows

    return normalise

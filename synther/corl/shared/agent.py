"""What an offline algorithm is: a stack of agents, and an update from a batch and noise."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from synther.corl.shared.config import RunConfig
from synther.learning.learner import Learner, Metrics
from synther.learning.replay import Batch


class Agent(Learner):
    """S independent agents of one algorithm, trained as one stack.

    A subclass makes its networks from ``generators`` (one a seed), then its optimisers by
    ``adam``, and defines ``act``, ``update`` and, where its update draws random numbers, ``noise``.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config.compile)

    def act(self, states: Tensor) -> Tensor:
        """Deterministic actions ``[S, N, A]`` for states ``[S, N, O]``."""
        raise NotImplementedError

    def noise(self, generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
        """The random numbers of that many updates of one seed: tensors ``[updates, ...]``."""
        return ()

    def form(self, step: int) -> Hashable:
        """Which of the update's straight-line forms step ``step`` takes (delayed parts, warm-up).

        Also the place to set what depends on the step, such as a learning rate.
        """
        return None

    def update(self, batch: Batch, noise: tuple[Tensor, ...], form: Hashable) -> Metrics:
        """One gradient step on every member.

        Args:
            batch: ``[S, B, ...]``.
            noise: what ``noise`` drew, stacked: tensors ``[S, ...]``.
            form: what ``form`` said of this step; steps are counted from 1.
        """
        raise NotImplementedError

"""Rows of a model are made anew as an agent learns, guided to what the agent does by then.

Policy-guided diffusion (arXiv 2404.06356) trains on such rows; see ``docs/guided_replay.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from synther.corl.shared.config import DiffusionConfig
from synther.corl.shared.normalizers import ActionNormalizer, StateNormalizer
from synther.learning.learner import Agent
from synther.learning.sources import RowFunction, RowSource, WaitForRows
from synther.learning.streams import (
    BlockStream,
    generators_for,
    restore_generators,
    uniform_indices,
)
from synther.transitions import TransitionLayout

GuidedRows = Callable[..., Tensor]
"""(n, generator, policy or None, strength) -> rows ``[n, 2 O + A + 2]``, not normalised."""


@dataclass(frozen=True, eq=False)
class MemberPolicy:
    """What one agent of a stack does, in the data's units: observations ``[N, O]`` -> actions
    ``[N, A]``, or their distribution where the agent has one.

    Args:
        agent: the stack, of ``seeds`` agents.
        member: the agent's place in it.
        states, actions: from the data's units to the agent's; None: they are the same.
    """

    agent: Agent
    member: int
    seeds: int
    states: StateNormalizer | None = None
    actions: ActionNormalizer | None = None

    @torch.no_grad()
    def __call__(self, observations: Tensor) -> Any:
        seen = observations if self.states is None else self.states(observations)
        acts = self.agent.policy(seen.expand(self.seeds, *seen.shape))
        if not isinstance(acts, Tensor):
            return _MemberDistribution(acts, self)
        own = acts[self.member]
        return own if self.actions is None else self.actions.inverse(own)


@dataclass(frozen=True, eq=False)
class _MemberDistribution:
    stack: torch.distributions.Distribution
    of: MemberPolicy

    def log_prob(self, actions: Tensor) -> Tensor:
        """Of actions ``[N, A]`` in the data's units, but for a constant."""
        maps = self.of.actions
        return self.stack.log_prob(actions if maps is None else maps(actions))[self.of.member]


class RefreshedRows(RowSource):
    """Batches of rows that live for at most ``diffusion.refresh`` updates.

    The rows of the first so many updates are as the model gives them, since no policy has been
    learnt. Later ones are guided to the agent as it is when they are made. With a sample limit so
    many are made at a time, and used again and again until the next refresh; without one, each is
    used once. A checkpoint holds the rows, so that a run goes on with the same ones.

    Args:
        generate: makes rows.
        normalise: what to do with them.
        layout: of the rows.
        batch_size: of each seed.
        diffusion: how many rows, for how long, and how strongly they are guided.
        seeds: of the agents.
        policies: of the agents, each for the rows of its own seed.
        device: that the rows are made on.
    """

    def __init__(
        self,
        generate: GuidedRows,
        normalise: RowFunction,
        layout: TransitionLayout,
        batch_size: int,
        diffusion: DiffusionConfig,
        *,
        seeds: Sequence[int],
        policies: Sequence[MemberPolicy],
        device: torch.device | str,
    ) -> None:
        self._generate, self._normalise, self.layout = generate, normalise, layout
        self._batch_size, self._diffusion, self._policies = batch_size, diffusion, policies
        self._noise = generators_for(seeds, "synthetic", device)
        self._chunk = batch_size * diffusion.batch_parallelism
        self._order: BlockStream | None = None
        if diffusion.sample_limit is not None:
            draw = uniform_indices(diffusion.sample_limit, batch_size)
            self._order = BlockStream(draw, generators_for(seeds, "data", device))
        self._members = torch.arange(len(seeds), device=device).unsqueeze(1)
        self._pool: Tensor | None = None  # [seeds, pool_rows, row_dim]
        self._age, self._updates = 0, 0  # batches of this pool, and in all
        self._wait = WaitForRows()

    def draw(self) -> Tensor:
        """The rows themselves."""
        if self._pool is None or self._age == self._life:
            with self._wait.timed():
                self._pool, self._age = self._new_pool(), 0
        if self._order is None:
            rows = self._pool[:, self._age * self._batch_size :][:, : self._batch_size]
        else:
            (indices,) = self._order.next()
            rows = self._pool[self._members, indices]
        self._age += 1
        self._updates += 1
        self._wait.batches += 1
        return rows

    def rows_of(self, drawn: Tensor) -> Tensor:
        return drawn

    def ready(self) -> int:
        """As many as are left of these rows' life: the next ones follow the agent as it is then."""
        return self._life - self._age or self._next_life()

    @property
    def _life(self) -> int:
        """The updates that the present rows are for; 0 without any."""
        if self._pool is None:
            return 0
        if self._order is not None:
            return self._diffusion.refresh
        return self._pool.shape[1] // self._batch_size

    def _next_life(self) -> int:
        """The updates that rows made now are for: those that follow no policy end with the first
        refresh."""
        refresh = self._diffusion.refresh
        if self._order is not None:
            return refresh
        unguided = refresh - self._updates
        return min(self._diffusion.batch_parallelism, unguided if unguided > 0 else refresh)

    def _new_pool(self) -> Tensor:
        follows = self._updates >= self._diffusion.refresh
        count = self._diffusion.sample_limit or self._batch_size * self._next_life()
        rows = [
            self._rows_of(count, noise, policy if follows else None)
            for noise, policy in zip(self._noise, self._policies, strict=True)
        ]
        return self._normalise(torch.stack(rows))

    def _rows_of(self, count: int, noise: torch.Generator, policy: MemberPolicy | None) -> Tensor:
        strength = self._diffusion.policy_guidance
        sizes = [min(self._chunk, count - start) for start in range(0, count, self._chunk)]
        return torch.cat([self._generate(size, noise, policy, strength) for size in sizes])

    def metrics(self, updates_per_second: float) -> dict[str, float]:
        return self._wait.metrics(updates_per_second)

    def state_dict(self) -> dict[str, Any]:
        return {
            "pool": self._pool,
            "age": self._age,
            "updates": self._updates,
            "generators": [each.get_state() for each in self._noise],
            "order": None if self._order is None else self._order.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._pool, self._age, self._updates = state["pool"], state["age"], state["updates"]
        restore_generators(self._noise, state["generators"])
        if self._order is not None:
            self._order.load_state_dict(state["order"])

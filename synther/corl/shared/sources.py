"""What hands out training batches: fixed rows, or rows that are generated when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from synther.corl.shared.normalizers import RowFunction
from synther.replay import Batch, RowBuffer
from synther.streams import BlockStream
from synther.transitions import TransitionLayout

GenerateRows = Callable[[int, torch.Generator], Tensor]
"""(n, generator) -> rows ``[n, 2 O + A + 2]``, not normalised, terminals 0 or 1."""


class BatchSource(Protocol):
    """What hands out batches, and can be stopped and continued."""

    def sample(self) -> Batch: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ReplayBuffer:
    """Uniform batches ``[seeds, batch_size, ...]`` of fixed rows.

    Args:
        rows: normalised.
        batch_size: of each seed.
        generators: of the indices, one a seed.
        pools: 1 where all seeds share the rows; the number of seeds where each has its own equal
            part of them, in order.
    """

    def __init__(
        self,
        rows: RowBuffer,
        batch_size: int,
        generators: Sequence[torch.Generator],
        pools: int = 1,
    ) -> None:
        self.rows = rows
        size = len(rows) // pools
        seeds = torch.arange(len(generators), device=rows.device)
        self._first_row = (seeds * size * (pools > 1)).unsqueeze(1)

        def draw(generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
            shape = (updates, batch_size)
            return (torch.randint(size, shape, generator=generator, device=generator.device),)

        self._indices = BlockStream(draw, generators)

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self) -> Batch:
        (indices,) = self._indices.next()
        return self.rows.gather(indices + self._first_row)

    def state_dict(self) -> dict[str, Any]:
        """The order of the data alone: the rows come from their file again."""
        return self._indices.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._indices.load_state_dict(state)


class DiffusionGenerator:
    """Batches ``[seeds, batch_size, ...]`` of rows that are generated when needed and used once.

    Args:
        generate: makes rows, not normalised.
        normalise: what to do with them.
        layout: of the rows.
        batch_size: of each seed.
        generators: of the model's noise, one a seed.
        batch_parallelism: batches of each seed that are generated at a time.
    """

    def __init__(
        self,
        generate: GenerateRows,
        normalise: RowFunction,
        layout: TransitionLayout,
        batch_size: int,
        generators: Sequence[torch.Generator],
        batch_parallelism: int = 100,
    ) -> None:
        self._generate, self._normalise, self._layout = generate, normalise, layout
        self._batch_size, self._generators = batch_size, generators
        self._pool_rows = batch_size * batch_parallelism
        self._pool: Tensor | None = None  # [seeds, batch_parallelism * batch_size, row_dim]
        self._position = 0

    def sample(self) -> Batch:
        if self._pool is None or self._position == self._pool_rows:
            rows = [self._generate(self._pool_rows, g) for g in self._generators]
            self._pool, self._position = self._normalise(torch.stack(rows)), 0
        stop = self._position + self._batch_size
        batch = self._pool[:, self._position : stop]
        self._position = stop
        return Batch(*self._layout.split(batch).values())

    def state_dict(self) -> dict[str, Any]:
        return {
            "pool": self._pool,
            "position": self._position,
            "generators": [each.get_state() for each in self._generators],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._pool, self._position = state["pool"], state["position"]
        for generator, stored in zip(self._generators, state["generators"], strict=True):
            generator.set_state(stored.cpu())

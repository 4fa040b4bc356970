"""Sources hand out training batches: stored rows, rows that are generated when needed, or a mix.

Every agent that learns from transitions takes its batches from here, be they an environment's or
the latents of pictures. A source can be saved, and continues with the same batches.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

from synther.learning.replay import Batch, RowBuffer
from synther.learning.streams import BlockStream, restore_generators, uniform_indices
from synther.runs.settings import ConfigError
from synther.transitions import TransitionLayout

RowFunction = Callable[[Tensor], Tensor]
"""Rows ``[..., row_dim]`` -> rows of the same shape, such as their normalisation."""

GenerateRows = Callable[[int, torch.Generator], Tensor]
"""(n, generator) -> rows ``[n, 2 O + A + 2]``, not normalised, terminals 0 or 1."""


class BatchSource(Protocol):
    """A source of batches that can be saved and continued; an agent knows what its batches are."""

    def sample(self) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def metrics(self, updates_per_second: float) -> dict[str, float]:
        """Metrics of the batches that were handed out since the last call."""
        ...


LEAD = 20
"""Batches of a pool that are used before the next pool is begun in the background: most graphs of
the update are captured by then, and share the device with nothing."""


class RowSource:
    """A source whose batches are rows ``[seeds, batch_size, row_dim]`` of one layout."""

    layout: TransitionLayout

    def draw(self) -> Any:
        """Tensors that name the rows of the next batch, for :meth:`rows_of`."""
        raise NotImplementedError

    def rows_of(self, drawn: Any) -> Tensor:
        """The rows that :meth:`draw` named. A CUDA graph can hold this: it changes nothing."""
        raise NotImplementedError

    def ready(self) -> int:
        """How many batches can be drawn before the agent takes its update on the first of them."""
        return sys.maxsize

    def batch(self, drawn: Any) -> Batch:
        """The batch ``[seeds, batch_size, ...]`` that :meth:`draw` named."""
        return Batch(*self.layout.split(self.rows_of(drawn)).values())

    def sample(self) -> Batch:
        """The next batch, ``[seeds, batch_size, ...]``."""
        return self.batch(self.draw())

    def metrics(self, updates_per_second: float) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


class WaitForRows:
    """How long training waits for rows that are generated, since the last record of metrics.

    Attributes:
        batches: that were handed out since then.
    """

    def __init__(self) -> None:
        self._seconds, self.batches = 0.0, 0

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """What is done in this block is waited for."""
        start = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - start

    def metrics(self, updates_per_second: float) -> dict[str, float]:
        """``generation_share``: of the time of training, what it waited for rows."""
        share = self._seconds * updates_per_second / max(1, self.batches)
        self._seconds, self.batches = 0.0, 0
        return {"generation_share": share}


class ReplayBuffer(RowSource):
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
        self.rows, self.layout = rows, rows.layout
        size = len(rows) // pools
        seeds = torch.arange(len(generators), device=rows.device)
        self._first_row = (seeds * size * (pools > 1)).unsqueeze(1)

        self._indices = BlockStream(uniform_indices(size, batch_size), generators)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self) -> Tensor:
        (indices,) = self._indices.next()
        return indices

    def rows_of(self, drawn: Tensor) -> Tensor:
        return self.rows.gather_rows(drawn + self._first_row)

    def state_dict(self) -> dict[str, Any]:
        """The order of the data alone: the rows come from their file again."""
        return self._indices.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._indices.load_state_dict(state)


class DiffusionGenerator(RowSource):
    """Batches ``[seeds, batch_size, ...]`` of rows that are generated when needed and used once.

    On CUDA the next pool of rows is generated in a stream of its own while training uses this one.
    The rows are the same.

    Args:
        generate: makes rows, not normalised.
        normalise: what to do with them.
        layout: of the rows.
        batch_size: of each seed.
        generators: of the model's noise, one a seed.
        batch_parallelism: batches of each seed that are generated at a time.
        ahead: generate the next pool in the background; None: on CUDA.
    """

    def __init__(
        self,
        generate: GenerateRows,
        normalise: RowFunction,
        layout: TransitionLayout,
        batch_size: int,
        generators: Sequence[torch.Generator],
        batch_parallelism: int = 100,
        ahead: bool | None = None,
    ) -> None:
        self._generate, self._normalise, self.layout = generate, normalise, layout
        self._batch_size, self._generators = batch_size, generators
        self._pool_rows = batch_size * batch_parallelism
        self._pool: Tensor | None = None  # [seeds, batch_parallelism * batch_size, row_dim]
        self._position = 0
        cuda = generators[0].device.type == "cuda"
        self._ahead = cuda if ahead is None else ahead
        self._worker = ThreadPoolExecutor(1, "generate-ahead")
        self._stream = torch.cuda.Stream(generators[0].device) if cuda and self._ahead else None
        self._coming: Future[Tensor] | None = None
        self._states_before: list[Tensor] = []  # of the generators, before the coming pool
        self._wait = WaitForRows()

    def draw(self) -> Tensor:
        """The rows themselves."""
        if self._pool is None or self._position == self._pool_rows:
            with self._wait.timed():
                self._pool, self._position = self._next_pool(), 0
        stop = self._position + self._batch_size
        rows = self._pool[:, self._position : stop]
        self._position = stop
        self._wait.batches += 1
        lead = min(LEAD * self._batch_size, self._pool_rows)
        if self._ahead and self._coming is None and self._position >= lead:
            self._states_before = self._states()
            self._coming = self._worker.submit(self._new_pool_aside)
        return rows

    def rows_of(self, drawn: Tensor) -> Tensor:
        return drawn

    def _next_pool(self) -> Tensor:
        if self._coming is None:
            return self._new_pool()
        pool, self._coming = self._coming.result(), None
        if self._stream is not None:
            # Made in the other stream: its memory must not be used again before this one is done.
            pool.record_stream(torch.cuda.current_stream(pool.device))
        return pool

    def _new_pool(self) -> Tensor:
        rows = [self._generate(self._pool_rows, each) for each in self._generators]
        return self._normalise(torch.stack(rows))

    def _new_pool_aside(self) -> Tensor:
        with torch.cuda.stream(self._stream):  # does nothing where there is none
            pool = self._new_pool()
        if self._stream is not None:
            self._stream.synchronize()
        return pool

    def _states(self) -> list[Tensor]:
        return [each.get_state() for each in self._generators]

    def metrics(self, updates_per_second: float) -> dict[str, float]:
        return self._wait.metrics(updates_per_second)

    def state_dict(self) -> dict[str, Any]:
        """A pool that is under way is not in it: it is generated again."""
        return {
            "pool": self._pool,
            "position": self._position,
            "generators": self._states() if self._coming is None else self._states_before,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._coming is not None:
            self._coming.result()  # its thread uses the generators
            self._coming = None
        if "generator" in state:  # how a pixel run of an earlier version saved its one seed
            pool = state["pool"]
            state = {**state, "generators": [state["generator"]]}
            state["pool"] = None if pool is None else pool[None]
        self._pool, self._position = state["pool"], state["position"]
        restore_generators(self._generators, state["generators"])


class MixedSource(RowSource):
    """Batches that take a fixed number of rows from each of several sources, in their order."""

    def __init__(self, parts: Sequence[RowSource]) -> None:
        self._parts, self.layout = parts, parts[0].layout

    def draw(self) -> list[Any]:
        return [part.draw() for part in self._parts]

    def rows_of(self, drawn: Sequence[Any]) -> Tensor:
        pairs = zip(self._parts, drawn, strict=True)
        return torch.cat([part.rows_of(each) for part, each in pairs], dim=1)

    def ready(self) -> int:
        return min(part.ready() for part in self._parts)

    def metrics(self, updates_per_second: float) -> dict[str, float]:
        return {k: v for part in self._parts for k, v in part.metrics(updates_per_second).items()}

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, stored in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(stored)


def rows_of_share(share: float, batch_size: int, name: str) -> int:
    """How many rows of a batch are so large a share of it.

    Raises:
        ConfigError: a share between 0 and 1 that is no row, or all rows, of so small a batch.
    """
    rows = round(share * batch_size)
    if (rows == 0) != (share == 0) or (rows == batch_size) != (share == 1):
        raise ConfigError(
            f"{name} is {share}, which is {rows} of the {batch_size} rows of a batch; give a share "
            f"from {1 / batch_size:.3g} to {1 - 1 / batch_size:.3g}, or 0 or 1"
        )
    return rows

"""An update is replayed as a CUDA graph: one launch instead of some hundred small ones."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from torch import Tensor

from synther.learning.learner import Agent, Metrics
from synther.learning.replay import Batch
from synther.runs.settings import ConfigError

WARM_UP = 3
"""Updates of each variant that run eagerly first, so that optimiser states and workspaces exist."""


_ONE_CAPTURE = threading.Lock()
"""Held by a capture: torch wants one at a time in a process."""


def graphed(agent: Agent) -> Callable[[Batch, tuple[Tensor, ...], Hashable], Metrics]:
    """``agent.update``, each of its variants captured once and replayed from then on.

    What changes from step to step comes in through fixed tensors: the batch and the random
    numbers, drawn outside, so that each replay sees fresh ones. The metrics that it returns are
    overwritten by the next call of the same variant.

    Raises:
        ConfigError: the agent is not on a CUDA device.
    """
    if next(agent.parameters()).device.type != "cuda":
        raise ConfigError("--compile cudagraph needs a CUDA device; use off or default")
    return _GraphedUpdate(agent)


class _GraphedUpdate:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._inputs: tuple[Batch, tuple[Tensor, ...]] | None = None
        self._seen: dict[Hashable, int] = {}
        self._captured: dict[Hashable, tuple[Any, Metrics]] = {}
        self._stream = torch.cuda.Stream(next(agent.parameters()).device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: Batch, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        fixed_batch, fixed_noise = self._copied(batch, noise)
        if variant not in self._captured:
            seen = self._seen[variant] = self._seen.get(variant, 0) + 1
            if seen <= WARM_UP:
                return self._aside(fixed_batch, fixed_noise, variant)
            graph = torch.cuda.CUDAGraph()
            with capture(graph, self._stream, self._pool):
                metrics = self._agent.update(fixed_batch, fixed_noise, variant)
            self._captured[variant] = graph, metrics
        graph, metrics = self._captured[variant]
        graph.replay()
        return metrics

    def _aside(self, batch: Batch, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        """An eager update on the stream of the capture, as CUDA graphs ask of a warm-up."""
        with aside(self._stream):
            return self._agent.update(batch, noise, variant)

    def _copied(self, batch: Batch, noise: tuple[Tensor, ...]) -> tuple[Batch, tuple[Tensor, ...]]:
        if self._inputs is None:
            clones = (each.clone(memory_format=torch.contiguous_format) for each in batch)
            self._inputs = Batch(*clones), tuple(each.clone() for each in noise)
        else:
            fixed = [*self._inputs[0], *self._inputs[1]]
            torch._foreach_copy_(fixed, [*batch, *noise])
        return self._inputs


@contextlib.contextmanager
def capture(
    graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream, pool: Any = None
) -> Iterator[None]:
    """Record this thread's work on ``stream``, on that stream's device, into ``graph``.

    Other threads may go on with their work on the device, such as the rows of the next pool; only
    another capture waits for this one.
    """
    with (
        _ONE_CAPTURE,
        torch.cuda.device(stream.device),
        torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
    ):
        yield


@contextlib.contextmanager
def aside(stream: torch.cuda.Stream) -> Iterator[None]:
    """Run what is inside on ``stream``, after the current stream's work and before what follows."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)

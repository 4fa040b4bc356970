"""Work is replayed as a CUDA graph: one launch instead of some hundred small ones."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from synther.learning.learner import Agent, Metrics
from synther.learning.replay import Batch
from synther.learning.sources import RowSource
from synther.learning.streams import BlockStream
from synther.runs.settings import ConfigError

T = TypeVar("T")

WARM_UP = 3
"""Calls of each kind that run eagerly first, so that optimiser states and workspaces exist."""
MOST_GRAPHS = 32
"""Further kinds of calls are not captured: one that comes this late hardly comes again."""
STRIDE = 20
"""Updates that a graph of ``--compile max`` holds. It divides the usual distances between log
records and evaluations, at which a stride ends."""

_ONE_CAPTURE = threading.Lock()
"""Held by a capture: torch wants one at a time in a process."""


class _Call(NamedTuple):
    graph: torch.cuda.CUDAGraph
    fixed: list[Tensor]  # what the inputs are copied into
    result: Any


class Replayed(Generic[T]):
    """``work(inputs, kind)``, captured once for each kind of call and replayed from then on.

    What changes from call to call comes in through fixed tensors: batches and random numbers, drawn
    outside, so that each replay sees fresh ones. The tensors of a result are overwritten by the
    next call of the same kind.

    Args:
        work: runs on the device alone; its inputs are tensors, in tuples, lists or dicts.
        device: of all of them.

    Raises:
        ConfigError: not a CUDA device.
    """

    def __init__(self, work: Callable[[Any, Hashable], T], device: torch.device) -> None:
        if device.type != "cuda":
            raise ConfigError(
                f"a CUDA graph needs a CUDA device, this is {device}; use compile off or default"
            )
        self._work = work
        self._seen: dict[Hashable, int] = {}
        self._captured: dict[Hashable, _Call] = {}
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, inputs: Any, kind: Hashable = None) -> T:
        seen = self._seen[kind] = self._seen.get(kind, 0) + 1
        is_new = kind not in self._captured
        if is_new and (seen <= WARM_UP or len(self._captured) == MOST_GRAPHS):
            # Copies, as a capture has them: what compiles the work anew has to come before it.
            given = _copies(inputs) if seen <= WARM_UP else inputs
            with aside(self._stream):
                return self._work(given, kind)
        if is_new:
            self._capture(inputs, kind)
        self._feed(inputs, kind)
        call = self._captured[kind]
        call.graph.replay()
        result: T = call.result
        return result

    def forget(self) -> None:
        """Capture anew: tensors that the work reads are others now, as after a state is loaded."""
        self._seen.clear()
        self._captured.clear()

    def _feed(self, inputs: Any, kind: Hashable) -> None:
        pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for fixed, given in zip(self._captured[kind].fixed, tensors_of(inputs), strict=True):
            of_type = pairs.setdefault(fixed.dtype, ([], []))
            of_type[0].append(fixed)
            of_type[1].append(given)
        for each in pairs.values():
            torch._foreach_copy_(*each)  # one launch, but for tensors of one type alone

    def _capture(self, inputs: Any, kind: Hashable) -> None:
        fixed = _copies(inputs)
        graph = torch.cuda.CUDAGraph()
        with capture(graph, self._stream, self._pool):
            result = self._work(fixed, kind)
        self._captured[kind] = _Call(graph, tensors_of(fixed), result)


def tensors_of(nested: Any) -> list[Tensor]:
    """The tensors in tuples, lists and dicts, in order."""
    return [each for each in tree_leaves(nested) if isinstance(each, Tensor)]


def _copies(inputs: Any) -> Any:
    """Contiguous tensors of their own in the same tuples, lists and dicts."""
    return tree_map_only(
        Tensor, lambda each: each.clone(memory_format=torch.contiguous_format), inputs
    )


def graphed(agent: Agent) -> Callable[[Batch, tuple[Tensor, ...], Hashable], Metrics]:
    """``agent.update``, each of its variants a CUDA graph; see :class:`Replayed`.

    Raises:
        ConfigError: the agent is not on a CUDA device.
    """

    def work(inputs: tuple[Batch, tuple[Tensor, ...]], variant: Hashable) -> Metrics:
        return agent.update(*inputs, variant)

    replayed = Replayed(work, next(agent.parameters()).device)
    return lambda batch, noise, variant: replayed((batch, noise), variant)


class Stride:
    """Several updates of an agent are one CUDA graph, in which their rows are gathered too.

    Its plain twin takes them one by one: they have the same batches, random numbers and rates.

    Args:
        agent: is on a CUDA device.
        source: of batches.
        noise: the updates' random numbers.

    Raises:
        ConfigError: it is not on a CUDA device.
    """

    def __init__(self, agent: Agent, source: RowSource, noise: BlockStream) -> None:
        self._agent, self._source, self._noise = agent, source, noise
        device = next(agent.parameters()).device
        self._replayed = Replayed(self._work, device)
        self._step = torch.zeros((), dtype=torch.float64, device=device)

    def longest(self) -> int:
        """How many updates the next call may take: no row may depend on an update before its own
        that the same call takes."""
        return min(STRIDE, self._source.ready())

    def __call__(self, steps: range) -> Metrics:
        """Take the updates of ``steps``; the metrics are those of the last one."""
        drawn = [(self._source.draw(), self._noise.next()) for _ in steps]
        self._step.fill_(steps.start)
        return self._replayed(drawn, tuple(map(self._agent.variant, steps)))

    def _work(self, drawn: Any, variants: Any) -> Metrics:
        metrics: Metrics = {}
        for (rows, noise), variant in zip(drawn, variants, strict=True):
            self._agent.schedule(self._step)
            metrics = self._agent.update(self._source.batch(rows), noise, variant)
            self._step += 1
        return metrics


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

"""``torch.cuda`` as Python code sees it: devices, streams, events, graphs, waits of the host."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests.fake_cuda import guard

LIBRARY = guard.load()  # before torch

import torch  # noqa: E402

DEVICES = 2
NAME = "emulated CUDA device"
_HERE, _ROOT = str(Path(__file__).parent), str(Path(__file__).parents[2])


class Wait(NamedTuple):
    """A moment at which the host waited: what for, and in which line of the project."""

    reason: str
    line: str


@dataclass
class State:
    """Of the whole process, but for the current device and streams, which are each thread's.

    Attributes:
        capture: the graph that is being captured.
        sync_mode: what ``torch.cuda.set_sync_debug_mode`` was told.
        waits: of the host, since the last ``reset``.
        touched: devices that something ran on, since then.
        products: kinds of float32 products that were taken, and whether that was in TF32.
        arriving: by stream, copies to pinned memory that nobody has waited for.
    """

    capture: CUDAGraph | None = None
    sync_mode: str = "default"
    waits: list[Wait] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    products: set[tuple[str, bool]] = field(default_factory=set)
    arriving: dict[tuple[int, int], list[Callable[[], object]]] = field(default_factory=dict)


STATE = State()


def reset() -> None:
    """What one test left must not reach the next one."""
    set_capture(None)
    STATE.sync_mode = "default"
    STATE.waits.clear()
    STATE.touched.clear()
    STATE.products.clear()
    STATE.arriving.clear()
    set_device(0)


def project_line() -> str:
    """The innermost line of the project, outside of the emulation, that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_ROOT) and not name.startswith(_HERE) and "site-packages" not in name:
            return f"{name[len(_ROOT) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def wait(reason: str, stream: torch.Stream | None = None) -> None:
    """The host waits for a stream (the current one), if it may."""
    stream = stream or current_stream()
    if STATE.capture is not None and STATE.capture.forbids(stream):
        raise RuntimeError(
            f"CUDA error: operation not permitted when stream is capturing ({reason} at "
            f"{project_line()})"
        )
    STATE.waits.append(Wait(reason, project_line()))
    if STATE.sync_mode == "error":
        raise RuntimeError(f"called a synchronizing CUDA operation: {reason} at {project_line()}")
    arrive(stream)


def arrive(*streams: torch.Stream) -> None:
    """Do the copies to the host that these streams still owe."""
    for stream in streams:
        for copy in STATE.arriving.pop(_key(stream), []):
            copy()


def owe(copy: Callable[[], object]) -> None:
    """A copy to the host that is there once somebody has waited for the current stream."""
    STATE.arriving.setdefault(_key(current_stream()), []).append(copy)


def _key(stream: torch.Stream) -> tuple[int, int]:
    return stream.device.index, stream.stream_id


# ---- Devices ----
def current_device() -> int:
    return int(torch._C._accelerator_getDeviceIndex())


def set_device(device: Any) -> None:
    index = device if isinstance(device, int) else torch.device(device).index
    if index is not None and index >= 0:
        torch._C._accelerator_setDeviceIndex(index)


class device:
    """``with torch.cuda.device(1)``."""

    def __init__(self, device: Any) -> None:
        self._device = device

    def __enter__(self) -> None:
        self._before = current_device()
        set_device(self._device)

    def __exit__(self, *error: object) -> None:
        set_device(self._before)


# ---- Streams ----
class Stream(torch.Stream):
    """A stream of a device; work in it is done at once."""

    def __new__(cls, device: Any = None, priority: int = 0, **_: Any) -> Stream:
        index = current_device() if device is None else torch.device(device).index
        full = torch.device("cuda", current_device() if index is None else index)
        STATE.touched.add(full.index)
        return super().__new__(cls, device=full)

    @classmethod
    def current(cls, index: int) -> Stream:
        """The stream of a device that work of this thread goes to."""
        now = torch.accelerator.current_stream(index)
        where = {"device_index": now.device_index, "device_type": now.device_type}
        return super().__new__(cls, stream_id=now.stream_id, **where)

    def synchronize(self) -> None:
        wait("stream.synchronize", self)

    def wait_stream(self, stream: torch.Stream) -> None:
        _same_capture(self, stream)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event


class Event:
    """An event; it knows which copies to the host it follows."""

    def __init__(self, enable_timing: bool = False, **_: Any) -> None:
        self._copies: list[Callable[[], object]] = []

    def record(self, stream: torch.Stream | None = None) -> None:
        self._copies = list(STATE.arriving.get(_key(stream or current_stream()), []))

    def wait(self, stream: torch.Stream | None = None) -> None:
        pass

    def synchronize(self) -> None:
        """CUDA's debug mode for waits does not mind a wait for an event."""
        STATE.waits.append(Wait("event.synchronize", project_line()))
        for copy in self._copies:
            copy()

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Event) -> float:
        return 1.0


def _same_capture(stream: torch.Stream, other: torch.Stream) -> None:
    capture = STATE.capture
    if capture is None:
        return
    if capture.is_on(stream) and not capture.is_on(other):
        raise RuntimeError("CUDA error: dependency created on uncaptured work in another stream")


def current_stream(device: Any = None) -> Stream:
    index = current_device() if device is None else torch.device(device).index
    return Stream.current(current_device() if index is None else index)


@contextlib.contextmanager
def stream(stream: torch.Stream | None) -> Iterator[None]:
    if stream is None:
        yield
        return
    with stream:
        yield


# ---- Graphs ----
def set_capture(graph: CUDAGraph | None) -> None:
    STATE.capture = graph
    LIBRARY.fake_cuda_set_capturing(int(graph is not None))


class CUDAGraph:
    """The operations of a capture, in order, to be executed at each replay.

    Attributes:
        calls: the operations.
        made: tensors that the capture made; before the first replay they hold nothing.
    """

    def __init__(self, keep_graph: bool = False) -> None:
        self.calls: list[Callable[[], object]] = []
        self.made: list[torch.Tensor] = []
        self.generators: list[torch.Generator] = []
        self.stream: torch.Stream

    def capture_begin(self, *pool: Any, capture_error_mode: str = "global", **_: Any) -> None:
        if STATE.capture is not None:
            raise RuntimeError("CUDA error: another capture is under way")
        self.error_mode, self.thread = capture_error_mode, threading.get_ident()
        self.stream = current_stream()
        set_capture(self)

    def is_on(self, stream: torch.Stream) -> bool:
        """Whether work in ``stream`` goes into the graph."""
        return _key(stream) == _key(self.stream)

    def forbids(self, stream: torch.Stream) -> bool:
        """Whether a wait for ``stream`` breaks the capture: thread_local lets other threads wait
        for other streams, global lets nobody."""
        mine = self.thread == threading.get_ident()
        return mine or self.error_mode == "global" or self.is_on(stream)

    def capture_end(self) -> None:
        set_capture(None)
        for each in self.made:
            if each.is_floating_point():
                each.fill_(torch.nan)

    def replay(self) -> None:
        for call in self.calls:
            call()

    def reset(self) -> None:
        self.calls.clear()

    def pool(self) -> tuple[int, int]:
        return (0, 1)

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generators.append(generator)


class graph:
    """``with torch.cuda.graph(...)``: captures what runs on its stream."""

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: Any = None,
        stream: torch.Stream | None = None,
        capture_error_mode: str = "global",
        **_: Any,
    ) -> None:
        self._graph, self._stream, self._mode = cuda_graph, stream or Stream(), capture_error_mode

    def __enter__(self) -> None:
        self._context = stream(self._stream)
        self._context.__enter__()
        self._graph.capture_begin(capture_error_mode=self._mode)

    def __exit__(self, *error: Any) -> None:
        self._graph.capture_end()
        self._context.__exit__(*error)


# ---- The rest of torch.cuda ----
def _synchronize(device: Any = None) -> None:
    """CUDA's debug mode for waits does not mind this one, which is always meant."""
    mode, STATE.sync_mode = STATE.sync_mode, "default"
    try:
        wait("torch.cuda.synchronize")
    finally:
        STATE.sync_mode = mode
    for copies in list(STATE.arriving.values()):
        for copy in copies:
            copy()
    STATE.arriving.clear()


def _set_sync_debug_mode(mode: int | str) -> None:
    STATE.sync_mode = ("default", "warn", "error")[mode] if isinstance(mode, int) else mode


def _generator(device: Any = "cuda") -> torch.Generator:
    index = device if isinstance(device, int) else torch.device(device).index
    generators: tuple[torch.Generator, ...] = torch.cuda.default_generators
    return generators[current_device() if index is None else index]


_PROPERTIES = SimpleNamespace(
    name=NAME, major=9, minor=0, total_memory=80 << 30, multi_processor_count=132
)
_REPLACED: dict[str, Any] = {
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "init": lambda: None,
    "_lazy_init": lambda: None,
    "_lazy_call": lambda call, **_: call(),
    "_is_in_bad_fork": lambda: False,
    "device_count": lambda: DEVICES,
    "current_device": current_device,
    "set_device": set_device,
    "device": device,
    "Stream": Stream,
    "ExternalStream": Stream,
    "Event": Event,
    "stream": stream,
    "current_stream": current_stream,
    "default_stream": lambda device=None: Stream(device),
    "CUDAGraph": CUDAGraph,
    "graph": graph,
    "graph_pool_handle": lambda: (0, 1),
    "is_current_stream_capturing": lambda: STATE.capture is not None,
    "synchronize": _synchronize,
    "set_sync_debug_mode": _set_sync_debug_mode,
    "get_sync_debug_mode": lambda: ("default", "warn", "error").index(STATE.sync_mode),
    "empty_cache": lambda: None,
    "mem_get_info": lambda device=None: (70 << 30, 80 << 30),
    "memory_allocated": lambda device=None: 0,
    "memory_reserved": lambda device=None: 0,
    "max_memory_allocated": lambda device=None: 0,
    "reset_peak_memory_stats": lambda device=None: None,
    "get_device_name": lambda device=None: NAME,
    "get_device_properties": lambda device=None: _PROPERTIES,
    "get_device_capability": lambda device=None: (9, 0),
    "is_bf16_supported": lambda including_emulation=True: True,
    "get_rng_state": lambda device="cuda": _generator(device).get_state(),
    "set_rng_state": lambda state, device="cuda": _generator(device).set_state(state),
    "get_rng_state_all": lambda: [each.get_state() for each in torch.cuda.default_generators],
    "set_rng_state_all": lambda states: [
        each.set_state(state)
        for each, state in zip(torch.cuda.default_generators, states, strict=True)
    ],
    "manual_seed": lambda seed: _generator().manual_seed(seed),
    "manual_seed_all": lambda seed: [
        each.manual_seed(seed) for each in torch.cuda.default_generators
    ],
}


def install() -> None:
    """Put all of this in the place of ``torch.cuda``'s functions."""
    for name, replacement in _REPLACED.items():
        setattr(torch.cuda, name, replacement)
    torch.cuda.graphs.CUDAGraph = CUDAGraph  # type: ignore[misc, assignment]
    torch.cuda.graphs.graph = graph  # type: ignore[misc, assignment]
    torch.cuda.default_generators = tuple(torch.Generator(f"cuda:{i}") for i in range(DEVICES))
    torch.backends.cuda.is_built = lambda: True

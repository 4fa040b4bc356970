"""The emulated tensor, and what an operation on it does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fake_cuda import host_api
from tests.fake_cuda.host_api import STATE, project_line
from tests.fake_cuda.operators import (
    CONVOLUTIONS,
    COPIES,
    DRAWS,
    INDEXES,
    MIXES_DEVICES,
    NOT_DETERMINISTIC,
    PRODUCTS,
    WAITS,
    Operator,
    describe,
    with_generator,
)

_NO_NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first"


class FakeCudaTensor(torch.Tensor):
    """Says that it is on a device; its numbers are ``inner``, a tensor of the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, index: int = 0) -> FakeCudaTensor:
        outer = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device("cuda", index),
            requires_grad=False,
        )
        outer.inner = inner
        return outer

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeCudaTensor:
        if id(self) not in memo:
            with torch.no_grad():
                inner = self.inner.detach().clone(memory_format=torch.preserve_format)
                twin = FakeCudaTensor(inner, self.device.index)
            twin.requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                twin._is_param = True  # what makes it a Parameter
            memo[id(self)] = twin
        return memo[id(self)]  # type: ignore[no-any-return]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"cuda:{self.device.index}({self.inner})"

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        host_api.wait("tolist")
        return self.inner.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(_NO_NUMPY)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(_NO_NUMPY)


class EmulatedDevice(TorchDispatchMode):
    """Inside of it operations know the device, those that make their first tensor of it too."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # a wrapper around every operation, for compilers, which none of them meets

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


class _Call:
    """One operation: what it was given, and on which device it happens.

    Attributes:
        fakes, plain: the emulated tensors and the others among the arguments.
        on_device: whether the result is the emulated device's; ``index`` says which one's.
    """

    def __init__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.op: Operator = describe(func)
        self.fakes: list[FakeCudaTensor] = []
        self.plain: list[torch.Tensor] = []
        self.generator: torch.Generator | None = None
        for each in _leaves((*args, *kwargs.values())):
            if isinstance(each, FakeCudaTensor):
                self.fakes.append(each)
            elif isinstance(each, torch.Tensor):
                self.plain.append(each)
            elif isinstance(each, torch.Generator):
                self.generator = each
        target = kwargs.get("device")
        target = None if target is None else torch.device(target)
        if target is not None:
            self.on_device = target.type == "cuda"
        else:
            first_counts = self.op.name == "copy_"  # a copy happens where it goes to
            where = args[:1] if first_counts else self.fakes
            self.on_device = any(isinstance(each, FakeCudaTensor) for each in where)
        if target is not None and target.index is not None:
            self.index = target.index
        else:
            named = self.fakes[0].device.index if self.fakes and target is None else None
            self.index = host_api.current_device() if named is None else named

    def check(self) -> None:
        """Raise what CUDA would raise, and wait where the host would wait."""
        name, line = self.op.name, project_line
        if self.generator is not None and self.on_device != (self.generator.device.type == "cuda"):
            kinds = ("cuda", "cpu") if self.on_device else ("cpu", "cuda")
            raise RuntimeError(
                f"Expected a '{kinds[0]}' device type for generator but found '{kinds[1]}' in "
                f"{name} at {line()}"
            )
        devices = {each.device for each in self.fakes}
        if name not in MIXES_DEVICES:
            devices |= {each.device for each in self.plain if each.dim() > 0 and self.fakes}
        if len(devices) > 1 and name not in COPIES:
            found = " and ".join(sorted(map(str, devices)))
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{found}! in {name} at {line()}"
            )
        if self.fakes and self.plain and name.startswith("_foreach") and name not in COPIES:
            raise RuntimeError(f"{name} was given tensors of two devices at {line()}")
        if torch.are_deterministic_algorithms_enabled() and name in NOT_DETERMINISTIC:
            raise RuntimeError(f"{name} does not have a deterministic implementation at {line()}")
        if reason := self._reason_to_wait():
            host_api.wait(reason)

    def note_product(self) -> None:
        """Record whether a product of float32 numbers would be TF32's on a GPU."""
        if not self.fakes or self.fakes[0].dtype != torch.float32:
            return
        if self.op.name in PRODUCTS:
            STATE.products.add(("matrices", torch.get_float32_matmul_precision() != "highest"))
        elif self.op.name in CONVOLUTIONS:
            STATE.products.add(("convolutions", torch.backends.cudnn.allow_tf32))

    def _reason_to_wait(self) -> str | None:
        name = self.op.name
        if name in WAITS and self.fakes:
            return name
        if name in COPIES and not self.in_passing:
            if self.plain and self.on_device:
                return "a copy from the host"
            if self.fakes and not self.on_device:
                return "a copy to the host"
        if name in INDEXES and self.fakes:
            indices = [each for each in self.args[1] if isinstance(each, torch.Tensor)]
            if any(each.dtype == torch.bool for each in indices):
                return "a boolean index"
            if not all(isinstance(each, FakeCudaTensor) for each in indices):
                return "an index from the host"
        return None

    @property
    def in_passing(self) -> bool:
        """Whether a copy is one that nobody waits for."""
        position = {"copy_": 2, "_foreach_copy_": 2}.get(self.op.name, len(self.args))
        by_position = len(self.args) > position and self.args[position]
        return bool(self.kwargs.get("non_blocking") or by_position)

    def unwrapped(self) -> Callable[[], Any]:
        """The same operation on the CPU."""
        args = tuple(_mapped(each, _inner) for each in self.args)
        kwargs = {key: _mapped(each, _inner) for key, each in self.kwargs.items()}
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        if self.on_device and self.op.name in DRAWS:
            return self._drawing(args, kwargs)
        if STATE.capture is not None and self.plain:
            # A capture keeps what the host had at that time.
            args = tuple(
                _mapped(each, lambda t: t.clone() if any(t is p for p in self.plain) else t)
                for each in args
            )
        return functools.partial(self.func, *args, **kwargs)

    def _drawing(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any]:
        generator = self.generator
        if generator is None:
            generator = torch.cuda.default_generators[self.index]
        kwargs.pop("generator", None)
        args = tuple(each for each in args if not isinstance(each, torch.Generator))
        func = with_generator(self.func)
        shapes = [each for each in args if isinstance(each, (list, tuple, torch.Size))]
        if isinstance(args[0], torch.Tensor):
            count = args[0].numel()
        else:
            count = int(np.prod(shapes[0] if shapes else args[0]))

        def run() -> Any:
            return func(*args, generator=_next_draw(generator, count), **kwargs)

        return run


def dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Every operation comes through here, those of the CPU alone too."""
    call = _Call(func, args, kwargs)
    op = call.op
    if not call.fakes and not call.on_device:
        if call.generator is not None and call.generator.device.type == "cuda":
            raise RuntimeError(
                f"Expected a 'cpu' device type for generator but found 'cuda' in {op.name} at "
                f"{project_line()}"
            )
        kwargs.pop("pin_memory", None)  # all of the CPU's memory is pinned here
        return func(*args, **kwargs)
    if op.name == "device":
        return call.fakes[0].device
    if op.name == "record_stream":
        return None
    call.check()
    if call.on_device:
        STATE.touched.add(call.index)
        call.note_product()
    run = call.unwrapped()
    if call.on_device and _is_captured(call.index):
        return _captured(call, run)
    if call.fakes and not call.on_device and op.name in COPIES and call.in_passing:
        return _copied_later(call, run)
    out = run()
    if op.writes:
        return _written(call)
    if not call.on_device:
        return out
    return _mapped(out, functools.partial(FakeCudaTensor, index=call.index))


def _captured(call: _Call, run: Callable[[], Any]) -> Any:
    """Into the graph instead of done; a new tensor is made now, for its shape."""
    graph = STATE.capture
    assert graph is not None
    if call.op.is_view:
        return _mapped(run(), functools.partial(FakeCudaTensor, index=call.index))
    if call.op.writes:
        graph.calls.append(run)
        return _written(call)
    out = run()
    made = [each for each in _leaves((out,)) if isinstance(each, torch.Tensor)]
    graph.made += made
    if not call.op.makes:

        def again() -> None:
            fresh = [each for each in _leaves((run(),)) if isinstance(each, torch.Tensor)]
            for held, new in zip(made, fresh, strict=True):
                held.copy_(new)

        graph.calls.append(again)
    return _mapped(out, functools.partial(FakeCudaTensor, index=call.index))


def _is_captured(index: int) -> bool:
    graph = STATE.capture
    return graph is not None and graph.is_on(torch.accelerator.current_stream(index))


def _copied_later(call: _Call, run: Callable[[], Any]) -> Any:
    """A copy to the host in passing: it is there when somebody has waited for the stream."""
    if call.op.name == "_to_copy":
        out = run()
        there = torch.full_like(out, torch.nan if out.is_floating_point() else -1)
        host_api.owe(functools.partial(there.copy_, out))
        return there
    sources = [each.inner.clone() for each in call.fakes]
    if call.op.name == "copy_":
        host_api.owe(functools.partial(call.args[0].copy_, sources[0]))
        return call.args[0]
    return run()


def _written(call: _Call) -> Any:
    """Operations in place, and those with ``out=``, return the very tensors they were given."""
    given = dict(zip(call.op.arguments, call.args, strict=False)) | call.kwargs
    returned = tuple(given[name] for name in call.op.returned)
    return returned if len(returned) > 1 else next(iter(returned), None)


def _next_draw(generator: torch.Generator, count: int) -> torch.Generator:
    """What stands for Philox at (seed, offset): the offset moves on as it does on the device."""
    capture = STATE.capture
    if (
        capture is not None
        and capture.is_on(torch.accelerator.current_stream(generator.device.index))
        and not any(
            generator is each for each in (*torch.cuda.default_generators, *capture.generators)
        )
    ):
        raise RuntimeError(
            "Offset increment outside graph capture encountered unexpectedly: the generator is "
            f"not registered with the graph, at {project_line()}"
        )
    words = generator.get_state().numpy().view(np.uint64).copy()
    sequence = np.random.SeedSequence([int(words[0]), int(words[1])])
    words[1] += np.uint64(4 * -(-max(count, 1) // 4))
    generator.set_state(torch.from_numpy(words.view(np.uint8)))
    seed = int(sequence.generate_state(1, np.uint64)[0]) % 2**63
    return torch.Generator().manual_seed(seed)


def _inner(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.inner if isinstance(tensor, FakeCudaTensor) else tensor


def _leaves(values: Sequence[Any]) -> Iterator[Any]:
    """Operators nest no deeper than lists of tensors."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(change(each) if isinstance(each, torch.Tensor) else each for each in value)
    return value

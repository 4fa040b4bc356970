"""Switches the emulated device on, for a process and then for what runs in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.fake_cuda import host_api  # before torch

# isort: split
import torch
from torch.utils._pytree import tree_map

from tests.fake_cuda.tensors import EmulatedDevice, FakeCudaTensor


def install() -> None:
    """Once a process, before anything else imports torch."""
    host_api.install()
    # A network keeps its Parameters when it moves, as on a GPU, though their class changes.
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch.Tensor.pin_memory = _pin_memory  # type: ignore[method-assign]
    torch.save, torch.load = _save, _load
    ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]


@contextmanager
def emulated() -> Iterator[None]:
    """Operations of this thread know the device."""
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is a copy
    with EmulatedDevice():
        yield


def _pin_memory(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
    return tensor if isinstance(tensor, FakeCudaTensor) else tensor.clone()


_torch_save, _torch_load, _plain_submit = torch.save, torch.load, ThreadPoolExecutor.submit


def _save(payload: Any, file: Any, **options: Any) -> None:
    def on_host(value: Any) -> Any:
        return value.inner.clone() if isinstance(value, FakeCudaTensor) else value

    host_api.arrive(*(host_api.current_stream(index) for index in range(host_api.DEVICES)))
    _torch_save(tree_map(on_host, payload), file, **options)


def _load(file: Any, map_location: Any = None, **options: Any) -> Any:
    payload = _torch_load(file, map_location="cpu", **options)
    if map_location is None or torch.device(map_location).type != "cuda":
        return payload
    index = torch.device(map_location).index
    index = host_api.current_device() if index is None else index
    return tree_map(
        lambda value: FakeCudaTensor(value, index) if isinstance(value, torch.Tensor) else value,
        payload,
    )


def _submit(
    pool: ThreadPoolExecutor, call: Callable[..., Any], *args: Any, **kwargs: Any
) -> Future[Any]:
    """Threads of the code under test see the device too."""

    def inside() -> Any:
        with emulated():
            return call(*args, **kwargs)

    return _plain_submit(pool, inside)

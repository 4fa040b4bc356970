"""A run chooses its device, CPU threads, precision and seeds with these functions."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import random
import sys
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from synther.runs.cpus import usable_cores

Precision = Literal["fp32", "tf32", "bf16", "auto"]
"""fp32: products are taken in float32. tf32: on CUDA in TF32, which keeps float32's range and 10 of
its 23 bits; elsewhere as fp32. bf16: in bfloat16. Weights and sums are float32 in all three.
auto: bf16 where that is faster, which :func:`synther.runs.precision.settled` finds out at first."""
CompileMode = Literal["off", "default", "cudagraph", "max"]
"""off: operation by operation. default: through torch.compile. cudagraph: replayed as CUDA graphs.
max: both, and as many updates in one graph as nothing comes between."""
COMPILED: tuple[CompileMode, ...] = ("default", "max")
"""The modes in which losses go through torch.compile."""
CAPTURED: tuple[CompileMode, ...] = ("cudagraph", "max")
"""The modes in which work is replayed as CUDA graphs."""

DEVICE_MEMORY_SHARE = 0.5
"""The share of the free GPU memory that a data set may take; one that needs more stays on the
host."""
RL_THREADS = 1
"""CPU threads for networks of RL size. More of them wait on each other at every small product, and
collapse by two orders of magnitude as soon as another process holds a core."""

SMALL_NETWORK = 1_000_000
"""Parameters below which a network has too little work for a second CPU thread."""
console = Console(soft_wrap=True, markup=False, highlight=False)


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` (CUDA where there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:1`` -> device.

    A CUDA device gets its number here, that of the current one where the name has none: tensors
    name theirs with it, and ``cuda`` equals no tensor's device. Only where a launcher started
    several processes it stays open, since each of them is given a GPU of its own later.

    Raises:
        ValueError: a name that is none of these, or a CUDA device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device '{name}': expected auto, cpu, cuda or cuda:<n>") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device '{name}': expected auto, cpu, cuda or cuda:<n>")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ValueError(
                f"device '{name}': torch {torch.__version__} sees {count} CUDA devices here; "
                "use --device cpu, or install a torch build with CUDA"
            )
        if device.index is None and _launched() == 1:
            device = torch.device("cuda", torch.cuda.current_device())
    return device


def _launched() -> int:
    """How many processes a launcher (accelerate, torchrun) started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def fits_on_device(size: int, device: torch.device) -> bool:
    """Whether a data set of ``size`` bytes may be kept in the memory of ``device``."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return size <= DEVICE_MEMORY_SHARE * free


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on ``device``; the host does not wait for the copy, which pinned memory
    lets run beside the device's work."""
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def available_cpus() -> int:
    """The number of CPU cores that this process may use, by its affinity and its container's quota;
    where a launcher (accelerate, torchrun) started others beside it, its share of them."""
    return max(usable_cores() // _launched(), 1)


def threads_for(network: nn.Module) -> int:
    """The number of CPU threads that a network should get, for :func:`cpu_threads`: a single one
    where it has fewer than ``SMALL_NETWORK`` parameters, else 0, which is every core."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return RL_THREADS if parameters < SMALL_NETWORK else 0


def rank() -> int:
    """The process's number as the launcher set it, before accelerate is there to ask; 0 without
    one."""
    return int(os.environ.get("RANK", 0))


@functools.cache
def say_once(text: str) -> None:
    """Print a line that this process has not printed yet; of a launcher's processes the first one
    has the voice."""
    if rank() == 0:
        console.print(text)


def say_what_waits(device: torch.device, mode: CompileMode, setting: str) -> None:
    """On CUDA say once that operation by operation the device waits for the host most of the time:
    on an H100 ``max`` makes 23 times as many updates of TD3+BC a second, and 8 times as many steps
    of a small denoiser (docs/performance.md). The modes differ in rounding, so the choice is left
    to the user.

    Args:
        setting: the name that the command gives the mode, for the message.
    """
    if device.type == "cuda" and mode == "off":
        say_once(
            f"{device} will wait for the host at every operation; with {setting} max a run is "
            "several times as fast (docs/performance.md, On a GPU)"
        )


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Run torch's CPU operators on ``count`` threads (0: every core that this process may use)."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or available_cpus())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_precision(precision: str) -> None:
    """Raise ValueError for what is no precision."""
    if precision not in get_args(Precision):
        raise ValueError(
            f"precision '{precision}': expected one of {', '.join(get_args(Precision))}"
        )


@contextlib.contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Take products in bfloat16 where ``precision`` is bf16; change nothing at all for others."""
    if precision != "bf16":
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16):
        yield


@contextlib.contextmanager
def float32_products(device: torch.device, precision: Precision) -> Iterator[None]:
    """Take products of float32 numbers on CUDA, convolutions too, in TF32 where ``precision`` says
    so and in float32 where it does not; gradients have to be taken inside as well.

    torch has these switches for the whole process. So it is a run that is inside, and no part of it
    that another thread may run beside it.
    """
    try:
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:  # they were set by torch's newer switches, which do not mix with these
        yield
        return
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep what tensors of up to 32 MB freed, up to 1 GB, for the next ones.

    With its own settings a step's gradients are fresh pages, which the kernel has to clear first: a
    fifth of a bf16 step of the denoiser at width 2048 and batch 256. Does nothing with another C
    library.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        mallopt = ctypes.CDLL(None).mallopt
        m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
        mallopt(m_mmap_threshold, 1 << 25)
        mallopt(m_trim_threshold, 1 << 30)


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that users bring draw from it
    torch.manual_seed(seed)


def use_deterministic_kernels() -> None:
    """Let torch use only kernels that give the same result every time, for the whole process.

    A CPU's do so anyway. On CUDA some operations get slower, such as sums over rows that are
    addressed by index, and one without such a kernel raises a RuntimeError. Call it before the
    first work on the device: cuBLAS reads its setting then.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Nothing here reads memory before it is written; filling it first would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True

"""Several processes train and sample one model together.

``accelerate launch --num_processes N`` starts them; accelerate carries the messages. Every process
does the same work on its share of each batch. What is drawn at random is drawn by all of them for
the whole batch, so that N processes compute what one would. Only the first writes files and speaks.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from synther.runs import loggers
from synther.runs.runtime import keep_freed_memory, rank

if TYPE_CHECKING:  # accelerate takes seconds to import, and a process alone does without it
    from accelerate import Accelerator

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""The longest wait for a process that downloads a data set or joins a file. Nobody waits for one
that ends: the launcher then ends the others."""

_PEER_LOST = re.compile(r"closed by peer|reset by peer|Broken pipe|remote process exited", re.I)


class Processes:
    """The processes of a run, as one of them sees them.

    Args:
        accelerator: as :func:`accelerator_for` makes it; None for a process that works alone,
            whatever it was started by.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self._accelerator = accelerator
        self.count: int = 1 if accelerator is None else accelerator.num_processes
        self.rank: int = 0 if accelerator is None else accelerator.process_index

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """This process's part of a batch of ``rows``; parts differ by one row at most.

        Raises:
            ValueError: fewer rows than processes.
        """
        if rows < self.count:
            raise ValueError(f"a batch of {rows} rows cannot be shared by {self.count} processes")
        return slice(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def decided_by_first(self, value: T) -> T:
        """The first process's ``value``, which has to fit in a message; all have to ask."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def all_agree(self, value: bool) -> bool:
        """Whether ``value`` is true for every process; all have to ask."""
        if self.count == 1:
            return value
        from accelerate.utils import gather_object

        return all(gather_object([value]))

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, of one shape: ``[count, *shape]``; all have to ask."""
        stacked = tensor[None]
        return stacked if self._accelerator is None else self._accelerator.gather(stacked)

    def progress_bar(self, total: int, description: str, **options: Any) -> tqdm:
        """The logger's progress bar, silent on all processes but the first."""
        if self.is_first:
            return loggers.progress_bar(total, description, **options)
        return tqdm(disable=True)


ALONE = Processes()


def accelerator_for(device: torch.device) -> Accelerator:
    """An accelerator on that device, for one process or for as many as the launcher started.

    Raises:
        ValueError: more processes than GPUs, one named GPU for several processes, or another way
            of distributing than data-parallel.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, DistributedType, PartialState
    from accelerate.utils import (
        DistributedDataParallelKwargs,
        GradientAccumulationPlugin,
        InitProcessGroupKwargs,
    )

    # accelerate keeps one state a process; a second trainer may ask for another kind of device.
    held = PartialState._shared_state.get("device")
    if held is not None and held.type != device.type:
        AcceleratorState._reset_state(reset_partial_state=True)
    _check_launch(device)
    if device.index is not None:
        torch.cuda.set_device(device)
    if device.type == "cpu":
        keep_freed_memory()
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        # Precision is runtime.autocast's: accelerate would fix it for the whole process. Likewise
        # accumulation is the trainer's, whatever the launcher's environment says.
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=PATIENCE),
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ],
    )
    kind = accelerator.distributed_type
    if kind not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise ValueError(
            f"accelerate was configured for {kind.value}; a diffusion model is trained "
            "data-parallel: launch it with --multi_gpu, without DeepSpeed, FSDP and the like"
        )
    if kind == DistributedType.NO:
        accelerator.state.device = device  # accelerate's own is a "cuda" without its number
    return accelerator


def _check_launch(device: torch.device) -> None:
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked != "no" and rank() == 0:
        warnings.warn(
            f"--mixed_precision {asked} of the launcher has no effect; the model's precision is "
            "--gin_params Trainer.precision=\"'bf16'\"",
            stacklevel=3,
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if device.type != "cuda" or here == 1:
        return
    if device.index is not None:
        raise ValueError(f"{here} processes were launched, each takes a GPU: not '{device}', cuda")
    if here > torch.cuda.device_count():
        raise ValueError(
            f"{here} processes were launched for {torch.cuda.device_count()} GPUs; lower "
            "--num_processes, or use --device cpu"
        )


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let the first process alone complain of the command line, which all of them have."""
    with contextlib.ExitStack() as stack:
        if rank() > 0:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield


@contextlib.contextmanager
def one_report() -> Iterator[None]:
    """Let the first process that fails in a command's work say why; the others end silently.

    A process that fails ends; the launcher sees that and ends those that would wait for it.

    Raises:
        ConnectionError: another process has gone.
        SystemExit: in place of any error, where another process has reported one.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not _first_to_fail():
            raise SystemExit(1) from error
        if isinstance(error, RuntimeError) and _PEER_LOST.search(str(error)):
            raise ConnectionError(
                "another process of this run has ended without a word (killed, or out of memory); "
                "--resume continues from the last checkpoint"
            ) from error
        raise


def _first_to_fail() -> bool:
    if not torch.distributed.is_initialized():
        return rank() == 0  # what fails this early fails everywhere
    try:
        store = torch.distributed.distributed_c10d._get_default_store()
        return bool(store.add("synther/failed", 1) == 1)
    except RuntimeError:  # the process that kept the store has ended, which it does not do silently
        return False

"""All commands end in the same way, and share the flags that stand here.

A command that fails says one thing on stderr, ``error: what, and what to do``, without a traceback,
and its exit code says of which kind it was:

====  ==============================================================================
0     done
1     the input, a setting, or the run: a file, a data set, a missing package
2     the command line
3     training diverged: a loss, a gradient or a weight is not a finite number
4     the disk: full, read-only, not permitted, or failing
5     the device: lost, or out of memory
130   interrupted (Ctrl-C)
====  ==============================================================================

A ValueError from deep inside, which numpy or torch raise, ends with 1 as well; the message says
that it is a fault. With ``SYNTHER_TRACEBACK=1`` every error shows its traceback. What else nobody
foresaw keeps its own, and Python's exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import dis
import enum
import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, get_args

import torch

from synther import ranges
from synther.envs import Backend, EnvironmentFaultError
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError, DivergedError
from synther.runs import interrupts
from synther.runs.settings import ConfigError, coerce

FAULT = (
    "this is a fault of the program or of a library, not a message about what it was given; "
    "SYNTHER_TRACEBACK=1 shows where it comes from"
)
RESUME = "--resume continues from the last checkpoint"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_DEVICE_ERROR = re.compile(
    "CUDA error|CUDA out of memory|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|NCCL error|"
    "DefaultCPUAllocator|Storage size calculation overflowed"
)


class Exit(enum.IntEnum):
    """Exit codes; see the module."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    DIVERGED = 3
    DISK = 4
    DEVICE = 5
    INTERRUPTED = interrupts.INTERRUPTED


class UsageError(ValueError):
    """A command line that cannot be understood."""


@contextlib.contextmanager
def command_errors(
    *expected: type[Exception], resume: bool = True, launched: bool = False
) -> Iterator[None]:
    """Turn what a command's user can mend into a message and an exit code.

    Args:
        expected: errors of the command's own, beside those that every command has.
        resume: whether the command has ``--resume``, to be named where it helps.
        launched: whether the command shares its work among the processes of a launcher. Where it
            does not they would all do all of it, in one folder, so it does not begin.
    """
    speak_anywhere()
    try:
        if not launched and "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE") != "1":
            raise UsageError(
                "this command works in one process; start it without the launcher "
                "(train_diffuser.py is the one that shares its work)"
            )
        with interrupts.kept():
            yield
    except KeyboardInterrupt:
        _leave(Exit.INTERRUPTED, f"stopped; {RESUME}" if resume else "stopped")
    except Exception as error:
        code = exit_code(error, *expected)
        if code is None:
            raise
        if os.environ.get("SYNTHER_TRACEBACK") == "1":
            traceback.print_exception(error)
        _leave(code, "; ".join([message_of(error, code), *getattr(error, "__notes__", [])]))


def speak_anywhere() -> None:
    """Let a terminal that has no letter for a character show its number: a name that cannot be
    printed would otherwise end a run whose work is done."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def noting(note: str) -> Iterator[None]:
    """Add ``note`` to the message of any error in the block."""
    try:
        yield
    except Exception as error:
        # As BaseException.add_note does, which Python 3.10 does not have.
        vars(error).setdefault("__notes__", []).append(note)
        raise


def exit_code(error: Exception, *expected: type[Exception]) -> Exit | None:
    """The exit code of an error; None for one that nobody foresaw.

    Args:
        error: what was raised.
        expected: further kinds whose message says all: code 1.
    """
    if isinstance(error, UsageError):
        return Exit.USAGE
    if isinstance(error, DivergedError):
        return Exit.DIVERGED
    if is_device_failure(error):
        return Exit.DEVICE
    if isinstance(error, OSError) and error.errno in (*FULL, *REFUSED, errno.EIO):
        return Exit.DISK
    known: tuple[type[Exception], ...] = (CheckpointError, OSError, ValueError, ImportError)
    return Exit.ERROR if isinstance(error, (*known, *expected)) else None


def message_of(error: Exception, code: Exit) -> str:
    """The message that a person gets about an error of that kind."""
    if code is Exit.DEVICE:
        first_line = (str(error).strip().splitlines() or ["out of memory"])[0]
        return (
            f"the device failed or its memory ran out ({first_line}); check it, or take less "
            "memory with smaller batches"
        )
    if code is Exit.DISK:
        assert isinstance(error, OSError)
        advice = "free some space" if error.errno in FULL else "choose a folder that can be written"
        return f"{error.filename or 'writing'}: {error.strerror or error}; {advice}"
    if isinstance(error, ValueError) and not is_own(error):
        return f"{_place_of(error)}; {FAULT}"
    return str(error).split("\n  In call to configurable")[0]  # which gin adds, for programmers


def is_own(error: BaseException) -> bool:
    """Whether an error is one that the project raises to be read: of one of its classes, or by a
    ``raise`` in its code. What numpy, torch or ``int`` raise inside it is a fault."""
    if type(error).__module__.split(".")[0] == interrupts.PACKAGE.name:
        return True
    last = _last(error)
    if last is None or interrupts.PACKAGE not in Path(last.tb_frame.f_code.co_filename).parents:
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _last(error: BaseException) -> TracebackType | None:
    found = error.__traceback__
    while found is not None and found.tb_next is not None:
        found = found.tb_next
    return found


def _place_of(error: BaseException) -> str:
    message = " ".join(str(error).split()) or "no message"
    last = _last(error)
    where = f" ({last.tb_frame.f_code.co_filename}:{last.tb_lineno})" if last else ""
    return f"{type(error).__name__}: {message}{where}"


def is_device_failure(error: BaseException) -> bool:
    """Whether it was the device, or memory, that failed."""
    if isinstance(error, (MemoryError, torch.AcceleratorError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(_DEVICE_ERROR.search(str(error)))


@contextlib.contextmanager
def naming_last_checkpoint(folder: Path | None, *prefixes: str) -> Iterator[None]:
    """Note on an error of numbers, disk, device or environment which checkpoint of ``folder`` is
    good."""
    try:
        yield
    except Exception as error:
        code = exit_code(error)
        ended = code in (Exit.DIVERGED, Exit.DISK, Exit.DEVICE)
        if folder is not None and (ended or isinstance(error, EnvironmentFaultError)):
            last = checkpoint.furthest(folder, *prefixes)
            note = f"last good checkpoint: {last or 'none was written'}"
            if last and code is not Exit.DIVERGED:
                note += f"; {RESUME}"
            if not ended:
                note = f"nothing of this step is stored; mend the environment; {note}"
            if note not in str(error):
                # As BaseException.add_note does, which Python 3.10 does not have.
                vars(error).setdefault("__notes__", []).append(note)
        raise


def _leave(code: Exit, message: str) -> NoReturn:
    sys.stderr.write(f"\n{message}\n" if code is Exit.INTERRUPTED else f"error: {message}\n")
    raise SystemExit(int(code)) from None


def argument(kind: Any) -> Callable[[str], Any]:
    """The ``type`` of a flag whose values are of a kind of :mod:`synther.ranges`."""

    def convert(text: str) -> Any:
        try:
            value = coerce(text, ranges.bare(kind))
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if expected := ranges.problem(value, kind):
            raise argparse.ArgumentTypeError(f"{text!r:.40}: expected {expected}")
        return value

    return convert


SEED = argument(ranges.Seed)
THREADS = argument(ranges.Threads)
COUNT = argument(ranges.Count)


def add_logging_arguments(
    parser: argparse.ArgumentParser, *, project: str, group: str | None, names: tuple[str, ...] = ()
) -> None:
    """Flags whose values are :class:`~synther.runs.loggers.LogSettings`; ``names`` are other names
    of ``--wandb-project``."""
    places = parser.add_argument_group("logs, beside metrics.jsonl")
    places.add_argument(
        "--tensorboard", action="store_true", help="TensorBoard's events, in the run's folder"
    )
    places.add_argument(
        "--wandb-project",
        *names,
        dest="project",
        metavar="PROJECT",
        default=project,
        help="in wandb (default: %(default)s)",
    )
    places.add_argument("--wandb-entity", dest="entity", metavar="ENTITY", help="account of wandb")
    text = "of the run, in wandb (default: %(default)s)"
    places.add_argument("--wandb-group", dest="group", metavar="GROUP", default=group, help=text)
    places.add_argument(
        "--wandb-mode",
        choices=("disabled", "offline", "online"),
        default=None,
        help="default: offline where an entity or WANDB_API_KEY is set, otherwise disabled",
    )


def add_action_units(parser: argparse._ActionsContainer) -> None:
    """Add ``--action_low`` and ``--action_high``, lists of numbers, or None; see
    :func:`synther.datasets.with_action_bounds`."""
    for name, which in (("--action_low", "lowest"), ("--action_high", "highest")):
        parser.add_argument(
            name,
            type=argument(ranges.Finite),
            nargs="+",
            metavar="NUMBER",
            help=f"the environment's {which} action in the units of the data, a number or one for "
            "each column (default: what the data say, or the environment that they name)",
        )


def add_deterministic(parser: argparse._ActionsContainer) -> None:
    """Add ``--deterministic``, see :func:`synther.runs.runtime.use_deterministic_kernels`."""
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits from every run on the same machine, also on CUDA, where it costs some "
        "speed; a CPU gives them anyway",
    )


def add_backend(parser: argparse._ActionsContainer) -> None:
    """Add ``--backend``, see :mod:`synther.envs.legacy`."""
    parser.add_argument(
        "--backend",
        choices=get_args(Backend),
        help="gym: environments and D4RL's data through gym 0.23, d4rl and mujoco-py, see "
        "docs/legacy.md (default: $SYNTHER_BACKEND, else gymnasium)",
    )

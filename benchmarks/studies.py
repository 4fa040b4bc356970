"""What the commands of the studies share: jobs side by side, a choice of them, and the machine."""

from __future__ import annotations

import argparse
import fnmatch
import platform
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import TypeVar

from synther.runs.commands import COUNT
from synther.suggestions import close_names

RunT = TypeVar("RunT")
_ending = Event()
"""Set from the first failure, or Ctrl-C, until :func:`do_all` is called again."""
CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}
"""By the kernel's name, the widest first."""


class StudyEndsError(RuntimeError):
    """A job that goes no further, because another one failed or the study was stopped."""


def go_on() -> None:
    """What a job asks before each of its steps.

    Raises:
        StudyEndsError: another job failed, or the study was stopped.
    """
    if _ending.is_set():
        raise StudyEndsError("left off: another job failed, or the study was stopped")


def do_all(jobs: Iterable[Callable[[], object]], workers: int) -> None:
    """Do all jobs in their order, ``workers`` of them at a time.

    Once a job fails or Ctrl-C comes no other one begins, and those that run take no further step
    (:func:`go_on`). The processes that they wait for are waited for; Ctrl-C reaches these as well.

    Raises:
        BaseException: that of the first job that failed, or KeyboardInterrupt.
    """
    failures: list[BaseException] = []

    def do(job: Callable[[], object]) -> None:
        if _ending.is_set():
            return
        try:
            job()
        except BaseException as error:
            # Said here, before this thread takes its next job.
            failures.append(error)
            _ending.set()

    _ending.clear()
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(do, job) for job in jobs]
            # A Ctrl-C that comes in the moment before a wait is noticed after it.
            while wait(futures, timeout=1).not_done:
                pass
        except BaseException:
            # For good: a second Ctrl-C leaves this block while jobs still run.
            _ending.set()
            raise
    if failures:
        raise failures[0]


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The flag for the second argument of :func:`do_all`."""
    parser.add_argument("--workers", type=COUNT, default=2, help="one-thread processes at a time")


def chosen(
    parser: argparse.ArgumentParser,
    flag: str,
    patterns: str,
    runs: Mapping[str, RunT],
    fits: Callable[[str, str], bool] = fnmatch.fnmatch,
) -> list[RunT]:
    """The runs whose name fits one of comma-separated patterns; the command ends with exit code 2
    where a pattern fits none.

    Args:
        parser: of the command.
        flag: that the patterns were given by.
        patterns: with wildcards.
        runs: by name.
        fits: whether a name, its first argument, fits a pattern.
    """
    found = set()
    for pattern in patterns.split(","):
        names = [name for name in runs if fits(name, pattern)]
        if not names:
            near = ", ".join(close_names(pattern, runs, most=3, cutoff=0.0))
            parser.error(f"{flag} {pattern}: no such run among the {len(runs)}, such as {near}")
        found.update(names)
    return [run for name, run in runs.items() if name in found]


def processor_name() -> str:
    """The processor's name, as the kernel says it."""
    return _first_core().get("model name") or platform.processor()


def processor() -> str:
    """The same with the widest instructions that it has for products, which differ between machines
    of one name: ``Intel(R) Xeon(R) Processor, AMX``."""
    has = _first_core().get("flags", "").split()
    widest = [name for flag, name in INSTRUCTIONS.items() if flag in has]
    return ", ".join([processor_name(), *widest[:1]])


def _first_core() -> dict[str, str]:
    """What the kernel says of it; nothing where it says so elsewhere."""
    text = CPUINFO.read_text() if CPUINFO.exists() else ""
    lines = text.partition("\n\n")[0].splitlines()
    pairs = [line.partition(":") for line in lines]
    return {name.strip(): value.strip() for name, _, value in pairs}

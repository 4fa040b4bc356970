"""A job is done by its command in a process of its own, with a log, alone in its folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from synther.installed import CHECKOUT
from synther.learning.evaluation import VARIABLE as EVAL_WORKERS
from synther.runs.commands import Exit
from synther.sweeps.jobs import Job, record, update_record
from synther.sweeps.sections import StudyError

LOCK_PATIENCE = 60.0
"""A job waits so many seconds for an earlier driver's process, which the kernel is about to end."""
FINAL = (Exit.USAGE, Exit.DIVERGED)
"""The same command would end with these exit codes again."""
_LAUNCH = Path(__file__).with_name("launch.py")


class FolderInUseError(RuntimeError):
    """Another process works in the folder."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: an empty ``failure`` is success, a ``final`` one would come again."""

    failure: str = ""
    final: bool = False


def run_job(job: Job, root: Path) -> Outcome:
    """Start the job's command, or what is left of it, and wait for its end.

    A job that is done is left alone. The command holds the job's lock as well as this process, so
    that nobody else starts in the folder before the command has ended, even where this process
    alone is killed.
    """
    folder = job.folder(root)
    try:
        with locked(folder / "lock", patience=LOCK_PATIENCE) as lock:
            if job.is_done(root):
                update_record(job, root, state="done")
                return Outcome()
            job.remember(root)
            return _start(job, root, lock)
    except (FolderInUseError, OSError) as error:
        return Outcome(str(error))
    except StudyError as error:
        return Outcome(str(error), final=True)


def _start(job: Job, root: Path, lock: IO[str]) -> Outcome:
    words = job.command(root)
    starts = record(job, root).get("starts", 0) + 1
    began = time.time()
    update_record(job, root, state="running", starts=starts, began=began, reason="")
    log_path = job.folder(root) / "log.txt"
    with open(log_path, "ab") as log:
        log.write(f"\n$ python3 {shlex.join(words)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [sys.executable, str(_LAUNCH), str(os.getpid()), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=CHECKOUT or root,
            env=_environment(job),
            pass_fds=(lock.fileno(),),
        )
        try:
            code = process.wait()
        except BaseException:  # an interrupt, or the end of the driver
            process.kill()
            process.wait()
            raise
    failure = "" if job.is_done(root) else _failure(code, log_path)
    state = "failed" if failure else "done"
    update_record(job, root, state=state, seconds=round(time.time() - began, 1), reason=failure)
    return Outcome(failure, final=code in FINAL)


def _environment(job: Job) -> dict[str, str]:
    # The study's jobs share the cores, so that none has any for the workers of its evaluations.
    environment = {EVAL_WORKERS: "0", **os.environ, "PYTHONUNBUFFERED": "1"}
    if not job.resources.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def _failure(code: int, log: Path) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    line = last_line(log)
    if code == 0:
        return f"ended without a result ({line})"
    return f"exit code {code}: {line}"


def last_line(log: Path, size: int = 4096) -> str:
    """The last line of a log that is not empty; a progress bar's last state counts as a line."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    return next((line for line in reversed(lines) if line), "")


@contextlib.contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[IO[str]]:
    """Hold the lock on a file, and write the process id into it; the lock ends with the process.

    Raises:
        FolderInUseError: another process has held it for ``patience`` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with open(path, "a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    raise FolderInUseError(
                        f"{path.parent}: process {file.read().strip() or '?'} works in it; "
                        "wait for its end, or end it"
                    ) from None
                time.sleep(0.2)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file

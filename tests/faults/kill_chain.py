"""Kill a command again and again, resume it each time, and compare what it ends with.

    python -m tests.faults.kill_chain KIND KILLS FOLDER [SEED]

A process that has everything imported forks for each try, so that a try costs the run and not the
imports. Random moments come from a generator of a fixed seed; where in the run a moment falls
depends on the machine, except for KIND ``saving``, which dies at a chosen call that writes.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synther.files import checkpoint
from synther.transitions import Transitions
from tests.faults.runs import KINDS, difference, outcome, write_data

OFTEN = {
    "diffusion": ("Trainer.resume_every=0.002", "Trainer.save_and_sample_every=10"),
    "offline": (),
    "online": ("redq_sac.checkpoint_every = 0.0", "REDQTrainer.resume_every = 0.002"),
}
"""Bindings that make a run save whenever it can."""
LATE_IMPORTS = ("torch._dynamo", "torch.distributed.tensor", "matplotlib.backends.backend_agg")
"""What a run would import in each try, which would take longer than the run."""
MOMENTS = ("diffusion", "sampling", "saving", "offline", "online")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hook_writes(visit: Callable[[], bool]) -> None:
    """Call ``visit`` before and after each call that changes a file; die where it says so. Of what
    torch.save was to write a part is then in the file."""

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def hooked(*args: Any, **keys: Any) -> Any:
            if visit():
                die()
            result = original(*args, **keys)
            if visit():
                die()
            return result

        setattr(owner, name, hooked)

    for name in ("replace", "unlink", "fsync", "mkdir", "rename"):
        wrap(os, name)
    save = torch.save

    def half_saved(payload: Any, file: Any) -> None:
        if visit():
            whole = io.BytesIO()
            save(payload, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            die()
        save(payload, file)

    torch.save = half_saved


@dataclass
class Try:
    """How one process ended: exit code (None: killed) and seconds."""

    code: int | None
    seconds: float


def fork(start: Callable[[], None], log: Path) -> int:
    """The id of a process that runs ``start`` and writes to ``log``."""
    pid = os.fork()
    if pid:
        return pid
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 70
    try:
        start()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def run_once(
    start: Callable[[], None], log: Path, *, after: float | None = None, at_write: int | None = None
) -> Try:
    """``start`` in a process of its own, killed after that many seconds or at that write."""

    def hooked() -> None:
        if at_write is not None:
            writes = iter(range(at_write))
            hook_writes(lambda: next(writes, None) is None)
        start()

    started = time.monotonic()
    pid = fork(hooked, log)
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - started
        if found:
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            return Try(None if killed else os.waitstatus_to_exitcode(status), seconds)
        if after is not None and seconds >= after:
            os.kill(pid, signal.SIGKILL)
            after = None
        time.sleep(0.001)


def require_whole(folder: Path) -> None:
    """Every file under its own name can be read; pictures are drawn anew by each try."""
    for path in folder.rglob("*"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.suffix == ".pt":
            checkpoint.load(path)
        elif path.suffix == ".npz":
            Transitions.load(path)
        elif path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        elif path.suffix == ".json":
            json.loads(path.read_text())


def progress(folder: Path) -> int:
    """Of the furthest checkpoint, in steps."""
    last = checkpoint.furthest(folder, "model", "resume", "checkpoint")
    return -1 if last is None else int(last.stem.rsplit("-", 1)[1])


class Chain:
    """Runs of one kind that are killed and resumed until they finish."""

    def __init__(self, moment: str, root: Path, seed: int) -> None:
        self.moment, self.root = moment, root
        self.random = random.Random(seed)
        self.data = write_data(root / "data.npz")
        self.log = root / "log.txt"
        self.kills = self.finished = self.number = 0
        self.wholes: dict[str, tuple[dict[str, Any], float, int]] = {}

    def kind(self) -> str:
        if self.moment == "saving":
            return list(KINDS)[self.number % len(KINDS)]
        return "diffusion" if self.moment == "sampling" else self.moment

    def start(self, kind: str, results: Path) -> Callable[[], None]:
        """What a script that keeps a job alive does: resume where there is a run."""
        run = KINDS[kind]
        words = [*run.words(self.data, results), *OFTEN[kind]]
        if self.moment == "diffusion":
            words.insert(0, "--no_save_samples")
        if kind == "offline" or (results / run.folder / "run.json").exists():
            words.append("--resume")
        return lambda: run.start(words)

    def whole(self, kind: str) -> tuple[dict[str, Any], float, int]:
        """Outcome, seconds and writes of the uninterrupted run."""
        if kind not in self.wholes:
            results = self.root / f"whole-{kind}"
            done = run_once(self.start(kind, results), self.log)
            if done.code:
                raise SystemExit(f"{kind} without a kill: {self.log.read_text()[-2000:]}")
            writes = 0
            if self.moment == "saving":
                writes = self.count_writes(kind)
            result = outcome(results / KINDS[kind].folder)
            self.wholes[kind] = (result, done.seconds, writes)
        return self.wholes[kind]

    def count_writes(self, kind: str) -> int:
        """How many chances to die a whole run has."""
        counted = self.root / "writes.txt"
        start = self.start(kind, self.root / f"counted-{kind}")

        def count() -> None:
            writes = 0

            def visit() -> bool:
                nonlocal writes
                writes += 1
                return False

            hook_writes(visit)
            start()
            counted.write_text(str(writes))

        if run_once(count, self.log).code:
            raise SystemExit(self.log.read_text()[-2000:])
        return int(counted.read_text())

    def run(self, kills: int) -> None:
        """Until that many processes have been killed, and the last run has finished all the same.

        Raises:
            SystemExit: a resume failed, a file is in part, progress was lost, or the results differ
                from the uninterrupted run's.
        """
        while self.kills < kills:
            kind = self.kind()
            expected, seconds, writes = self.whole(kind)
            results = self.root / f"chain-{self.number}"
            folder = results / KINDS[kind].folder
            reached = -1
            while True:
                limits: dict[str, Any] = {}
                if self.kills < kills and self.moment == "saving":
                    limits["at_write"] = self.random.randrange(1, max(2, writes // 3))
                elif self.kills < kills:
                    limits["after"] = self.random.uniform(0, 0.7 * seconds)
                done = run_once(self.start(kind, results), self.log, **limits)
                if done.code is not None:
                    break
                self.kills += 1
                require_whole(folder)
                if progress(folder) < reached:
                    raise SystemExit(f"kill {self.kills}: {folder} fell back from step {reached}")
                reached = progress(folder)
            if done.code:
                raise SystemExit(
                    f"kill {self.kills}: resuming ended with {done.code}:\n"
                    + self.log.read_text()[-3000:]
                )
            if found := difference(outcome(folder), expected):
                raise SystemExit(f"kill {self.kills}: {folder} differs in {found[:300]}")
            if left := [*folder.rglob("*.partial"), *folder.rglob("*.parts")]:
                raise SystemExit(f"kill {self.kills}: left behind: {left}")
            self.finished += 1
            self.number += 1


def main(words: list[str]) -> None:
    """The command; prints counts as JSON."""
    moment, kills, folder = words[:3]
    torch.set_num_threads(1)
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    started = time.monotonic()
    chain = Chain(moment, Path(folder), int(words[3]) if len(words) > 3 else 0)
    chain.run(int(kills))
    counts = {"kills": chain.kills, "runs_finished": chain.finished}
    seconds = round(time.monotonic() - started)
    sys.stdout.write(json.dumps({"moment": moment, **counts, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

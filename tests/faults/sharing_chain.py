"""Start two commands in one folder at random moments, and look at what is left.

    python -m tests.faults.sharing_chain KIND ROUNDS FOLDER [SEED]

One of the two finishes as if it were alone, bit for bit, and the other says who holds the folder
and changes nothing. Where the second one comes when the first is done, both finish, and the files
of the first are set aside whole. The two differ in what they learn from, so that a mixture shows;
those of KIND ``offline`` resume the same run, since it is only then that they share a folder. KIND
``training`` is ``diffusion`` without samples and their report.

A process that has everything imported forks for each command, as in ``kill_chain``. Random moments
come from a generator of a fixed seed; where in the run a moment falls depends on the machine.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from synther.files import checkpoint
from synther.transitions import Transitions
from tests.faults.kill_chain import LATE_IMPORTS, fork, run_once
from tests.faults.runs import KINDS, difference, outcome, write_data

NAMES = ("first", "second")
SHARED = ("diffusion", "training", "offline", "online")


class Sharing:
    """Rounds of two commands of one kind."""

    def __init__(self, kind: str, root: Path, seed: int) -> None:
        self.kind, self.root = kind, root
        self.run = KINDS["diffusion" if kind == "training" else kind]
        self.random = random.Random(seed)
        self.counts = {"rounds": 0, "refused": 0, "one_after_the_other": 0}
        data = write_data(root / "first" / "data.npz")
        rows = Transitions.load(data)
        if kind != "offline":
            rows = Transitions.from_arrays(
                {**rows.arrays(), "rewards": rows.rewards + 1000}, metadata=rows.metadata
            )
        rows.save(root / "second" / "data.npz")
        self.expected = {name: self.alone(name) for name in NAMES}
        seconds = [found[1] for found in self.expected.values()]
        self.seconds = max(seconds)

    def words(self, name: str, results: Path) -> list[str]:
        """The command of one of the two."""
        data = self.root / ("first" if self.kind == "offline" else name) / "data.npz"
        words = self.run.words(data, results)
        if self.kind == "offline":
            return [*words, "--resume"]
        if self.kind == "training":
            return ["--no_save_samples", *words]
        if self.kind == "online" and name == "second":
            return [*words, "redq_sac.gamma = 0.5"]
        return words

    def start(self, name: str, results: Path) -> Callable[[], None]:
        return lambda: self.run.start(self.words(name, results))

    def prepared(self, results: Path) -> Path:
        """A results folder to start in; an offline run is in it that was cut off half-way."""
        if self.kind == "offline":
            cut = self.root / "cut"
            if not cut.exists():
                self.require(run_once(self.start("first", cut), self.log("cut")).code == 0, "cut")
                folder = cut / self.run.folder
                (folder / "result.json").unlink()
                for step, path in checkpoint.steps(folder, "checkpoint").items():
                    if step > 20:
                        path.unlink()
            shutil.copytree(cut, results)
        return results

    def log(self, name: str) -> Path:
        return self.root / f"{name}.txt"

    def alone(self, name: str) -> tuple[dict[str, Any], float]:
        """Outcome and seconds of a command that nobody disturbs."""
        results = self.prepared(self.root / f"alone-{name}")
        done = run_once(self.start(name, results), self.log(name))
        self.require(done.code == 0, f"{name} alone ended with {done.code}")
        return outcome(results / self.run.folder), done.seconds

    def round(self) -> None:
        """Start both, the second one at a random moment of the first one's run.

        Raises:
            SystemExit: what is left is of neither, or of both, or the owner was not named.
        """
        number = self.counts["rounds"]
        results = self.prepared(self.root / f"round-{number}")
        order = self.random.sample(NAMES, 2)
        pids: dict[int, str] = {}
        began = time.monotonic()
        moments = sorted([0.0, self.random.uniform(0, self.seconds)])
        for name, moment in zip(order, moments, strict=True):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            pids[fork(self.start(name, results), self.log(name))] = name
        codes = {}
        for _ in order:
            pid, status = os.wait()
            codes[pids[pid]] = os.waitstatus_to_exitcode(status)
        named = {name: pid for pid, name in pids.items()}
        self.check(number, results / self.run.folder, codes, named)
        self.counts["rounds"] += 1
        shutil.rmtree(results)

    def check(
        self,
        number: int,
        folder: Path,
        codes: dict[str, int],
        pids: dict[str, int],
    ) -> None:
        """Look at what a round left, by the exit codes and process ids of the two."""
        texts = {name: self.log(name).read_text() for name in NAMES}
        what = f"round {number}: codes {codes}, {texts}"
        self.require(0 in codes.values(), what)
        earlier = self.root / "earlier"
        shutil.rmtree(earlier, ignore_errors=True)
        both = set(codes.values()) == {0}
        if both and self.kind != "offline":  # there the second finds the result and leaves it alone
            (folder / "previous-1").rename(earlier)
        # Of two that finished, the one that was started later may have come first: only the folder
        # knows.
        whole = [name for name in NAMES if codes[name] == 0 and not self.differs(folder, name)]
        winner = (whole or [min(codes, key=lambda name: codes[name])])[0]
        (loser,) = {*NAMES} - {winner}
        if both:
            self.counts["one_after_the_other"] += 1
            if earlier.exists():
                self.compare(number, earlier, loser)
        else:
            self.counts["refused"] += 1
            told = f"process {pids[winner]} on {platform.node()} ("
            self.require(codes[loser] == 1 and told in texts[loser], f"{told}: {what}")
        self.compare(number, folder, winner)
        others = {path.name for path in folder.parent.iterdir()} - {folder.name}
        self.require(not others, f"round {number}: {others}")

    def differs(self, folder: Path, name: str) -> str | None:
        """Where a folder is not as that command leaves it alone; None if it is."""
        return difference(outcome(folder), self.expected[name][0])

    def compare(self, number: int, folder: Path, name: str) -> None:
        found = self.differs(folder, name)
        self.require(found is None, f"round {number}: {folder} is not {name}'s: {found}")

    def require(self, good: bool, what: str) -> None:
        if not good:
            raise SystemExit(f"{self.kind}: {what[-4000:]}")


def main(words: list[str]) -> None:
    """The command; prints counts as JSON after each round."""
    kind, rounds, folder = words[:3]
    torch.set_num_threads(1)
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    began = time.monotonic()
    sharing = Sharing(kind, Path(folder), int(words[3]) if len(words) > 3 else 0)
    for _ in range(int(rounds)):
        sharing.round()
        seconds = round(time.monotonic() - began)
        line = json.dumps({"kind": kind, **sharing.counts, "seconds": seconds})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

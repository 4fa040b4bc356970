"""A job is one command of the project in a folder of its own; the folder says how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from synther import installed
from synther.files import atomic
from synther.reports.progress import offline_result, online_steps, read_object
from synther.runs.folder import MAY_DIFFER
from synther.sweeps.sections import StudyError
from synther.sweeps.study import Kind, Resources

State = Literal["done", "unfinished", "to do"]
ROOT = "{folder}"
"""This stands for the study's folder in the words of a command."""

NEED_SAMPLES = {"diffusion.mix", "diffusion.refresh", "diffusion.policy_guidance"}
"""Arguments that a run on real rows alone refuses, and that its words thus are without."""


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        name: is its folder inside the study's: ``offline/iql-hopper-demo-v0-real-s0``.
        kind: says what it makes.
        script: is the command's file, from the root of the repository where it lies in there.
        words: are its arguments, but for the one that resumes.
        needs: names the jobs whose files it reads.
        resources: are what it occupies.
        seeds: are those of the agents that it trains.
        algorithm: is, for ``offline``, what tables call the algorithm.
        output: is, for ``data`` and ``diffusion``, the file that it makes in its ``run`` folder.
    """

    name: str
    kind: Kind
    script: str
    words: tuple[str, ...]
    needs: tuple[str, ...] = ()
    resources: Resources = field(default=Resources(), compare=False)
    seeds: tuple[int, ...] = ()
    algorithm: str = ""
    output: str = ""

    def folder(self, root: Path) -> Path:
        """Its log, its lock and its state lie here and, in ``run``, what the command writes."""
        return root / self.name

    def run(self, root: Path) -> Path:
        return self.folder(root) / "run"

    def command(self, root: Path) -> list[str]:
        """The words after ``python3``; they resume what was begun in the folder."""
        words = [
            installed.script(self.script),
            *(word.replace(ROOT, str(root)) for word in self.words),
        ]
        # train_diffuser.py refuses to resume where nothing was started; the others begin.
        begun = self.kind != "diffusion" or (self.run(root) / "run.json").is_file()
        return [*words, "--resume"] if self.kind != "data" and begun else words

    def is_done(self, root: Path) -> bool:
        """Whether the command has left its result; the state file is not asked."""
        run = self.run(root)
        if self.kind == "offline":
            results = map(offline_result, run.glob("*/"))
            return any(each and tuple(each.get("seeds", ())) == self.seeds for each in results)
        if self.kind == "online":
            return any(_is_finished(file.parent) for file in run.glob("*/*/run.json"))
        if self.kind == "diffusion" and not (run / "marginals.png").is_file():
            return False  # the last file that the command writes
        return (run / self.output).is_file()

    def state(self, root: Path) -> State:
        if self.is_done(root):
            return "done"
        return "unfinished" if self.run(root).exists() else "to do"

    def remember(self, root: Path) -> None:
        """Write down what the folder is for, before the first start.

        What says only how the command runs (``--threads``, which follows ``resources``, or
        ``--device``) is neither written nor compared: the command itself goes on with another.

        Raises:
            StudyError: the folder holds a job of another command, because the file of the study was
                changed since.
        """
        file = self.folder(root) / "job.json"
        words = list(_that_count(self.words))
        now = {"script": self.script, "words": words, "seeds": list(self.seeds)}
        before = read_object(file)
        if before is None:
            atomic.write_json(file, now)
            return
        # Earlier versions wrote all words down.
        if {**before, "words": list(_that_count(before.get("words", ())))} != now:
            raise StudyError(f"{self.folder(root)}: {_difference(before, now)}")


def record(job: Job, root: Path) -> dict[str, Any]:
    """What the job's state file says: ``state``, ``starts``, ``reason`` and times; empty before the
    first start. It is for people and the table: whether a job is done, its results alone show."""
    return read_object(job.folder(root) / "state.json") or {}


def update_record(job: Job, root: Path, **values: Any) -> dict[str, Any]:
    """Put values into the state file, which is written whole or not at all."""
    content = {**record(job, root), **values}
    atomic.write_json(job.folder(root) / "state.json", content)
    return content


def _that_count(words: Sequence[str]) -> Iterator[str]:
    """The words of a command that its results depend on."""
    without = MAY_DIFFER if "--diffusion.path" in words else MAY_DIFFER | NEED_SAMPLES
    left_out = False
    for word in words:
        if word.startswith("--"):
            left_out = word[2:].replace("-", "_") in without
        if not left_out:
            yield word


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    then, words = list(_that_count(before.get("words", ()))), list(now["words"])
    gone = " ".join(str(each) for each in then if each not in words) or "-"
    new = " ".join(each for each in words if each not in then) or "-"
    return (
        f"was started with other settings (then: {gone}; now: {new}); "
        "choose another --folder, or remove this one"
    )


def _is_finished(run: Path) -> bool:
    try:
        step, total = online_steps(run)
    except ValueError:  # its metrics are damaged: the command says so when it goes on with the run
        return False
    return bool(total and step >= total)

"""A run's folder is claimed here, and only the same run may resume in it.

Every command that writes a folder claims it here, and every ``--resume`` is answered here. A folder
belongs to the run whose settings lie in it, in a file that each command names: ``run.json``,
``config.yaml``, ``config.json`` or ``round.json``. A run is the same run when its settings are; a
run that is resumed with more steps than it was started with goes on as a longer one.

Two commands cannot work in one folder at a time: see :mod:`synther.runs.lock`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from synther.files import atomic, checkpoint
from synther.files.checkpoint import CheckpointError
from synther.runs.loggers import LOG_FILES, LOG_KEYS
from synther.runs.settings import as_dict, build, read_settings, typed

PREFIX = "checkpoint"
"""An agent's checkpoints are ``checkpoint-{step}.pt``."""
MAY_DIFFER = LOG_KEYS | {"resume", "device", "threads", "eval_workers"}
"""Keys that a resumed run may have otherwise: they say how it runs, not what it computes."""
PREVIOUS = re.compile(r"previous-(\d+)")
"""The names of the folders into which earlier runs are moved."""
KINDS = (
    ("run.json", "model"), ("run.json", PREFIX), ("config.yaml", PREFIX), ("config.json", PREFIX)
)  # fmt: skip
"""The settings and the checkpoints by which the runs of the commands are told from each other."""
LENGTHENED = "lengthened.json"
"""A list of a run's changes of length: the step it stood at, its length then, and from there on."""
console = Console(soft_wrap=True, markup=False)  # a path stays whole, brackets and all


class RunFolderError(CheckpointError):
    """A folder of another run, or one whose files cannot be read; the message names it."""


def whole_number(value: Any) -> int | None:
    """The number of steps that a setting says; None where it says none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class RunFolder:
    """The folder of one run; everything in it is written whole or not at all.

    Args:
        path: of the folder, which :meth:`claim` makes.
        file: the name of the file of settings; it is YAML where it ends in ``.yaml``, else JSON.
        settings: what the results depend on: a dataclass of :mod:`synther.runs.settings`, or plain
            values by key, of which ``gin`` is a text whose bindings are compared one by one.
        may_differ: keys, beside ``MAY_DIFFER``, that a resumed run may have otherwise.
        own: names, or patterns of them, of what a run writes into the folder beside the file of
            settings and the logs. A new run sets these aside, and leaves all else where it is.
        lengths: keys of the number of steps, which a resumed run may have greater.
        steps_of: from the value of such a key to the number; None where it has none.
        younger: keys that runs of earlier versions do not have, which then differ in nothing.
    """

    def __init__(
        self,
        path: Path,
        file: str,
        settings: Any,
        may_differ: Collection[str] = (),
        *,
        own: Collection[str] = (),
        lengths: Collection[str] = (),
        steps_of: Callable[[Any], int | None] = whole_number,
        younger: Collection[str] = (),
    ) -> None:
        self.path, self.file = path, path / file
        self.settings, self.may_differ = settings, may_differ
        self.own = (file, LENGTHENED, *LOG_FILES, *own)
        self.lengths, self.steps_of, self.younger = lengths, steps_of, younger

    # ---- Whose it is ----
    def claim(self, *, resume: bool, must_exist: bool = False) -> Path | None:
        """Make the folder this run's, with its settings in it.

        The caller holds the folder's lock, and has checked all else that can be wrong.

        Args:
            resume: go on with the run in it, if there is one. A new run moves what an earlier one
                left to ``previous-{n}`` inside the folder, and says so.
            must_exist: whether it is an error that there is none to resume.

        Returns:
            Where an earlier run was moved; None where none was.

        Raises:
            RunFolderError: the run to resume has other settings, or its settings cannot be read.
        """
        moved = None
        if resume and (must_exist or self.file.exists()):
            self.require_same()
            atomic.remove_partials(self.path)
            if longer := self.lengthened():
                self._lengthen(longer)
        else:
            if left := self._left_by_earlier_run():
                moved = self._set_aside(left)
            self.write_settings()
        return moved

    def require_same(self) -> None:
        """Refuse to resume the run in the folder with other settings than it was started with: the
        result would be of neither. Only more steps than before are let through.

        Raises:
            RunFolderError: they differ; the message lists each key, then and now.
        """
        differing = self.differences()
        if differing and not self._only_longer(differing):
            lines = [f"  {key}: then {then}, now {now}" for key, (then, now) in differing.items()]
            if "data" in differing:
                lines.append(
                    "  (data is a digest: the rows of the data set are not what they were)"
                )
            more = f" (a greater {' or '.join(self.lengths)} alone trains on)" * bool(self.lengths)
            raise RunFolderError(
                f"{self.path}: --resume needs the settings that the run was started with{more}; "
                "give these, or leave --resume out to begin a new run\n" + "\n".join(lines)
            )

    def lengthened(self) -> tuple[int, int] | None:
        """The length of the run in the folder and its new one, in the unit of its setting, where
        its settings differ in being longer alone."""
        differing = self.differences()
        if not differing or not self._only_longer(differing):
            return None
        # A second key, such as a number of epochs, says the same in another unit.
        key = next(key for key in self.lengths if key in differing)
        then, now = map(self.steps_of, differing[key])
        assert then is not None
        assert now is not None
        return then, now

    def _only_longer(self, differing: Mapping[str, tuple[Any, Any]]) -> bool:
        for key, pair in differing.items():
            then, now = map(self.steps_of, pair)
            if key not in self.lengths or then is None or now is None or now < then:
                return False
        return True

    def _lengthen(self, lengths: tuple[int, int]) -> None:
        """Give the run its new length; the result of the shorter one gets a name of its own."""
        last = checkpoint.furthest(self.path, "model", "resume", PREFIX)
        step = int(last.stem.rsplit("-", 1)[1]) if last else 0
        past = self.path / LENGTHENED
        steps = json.loads(past.read_text(encoding="utf-8")) if past.is_file() else []
        steps.append({"step": step, "then": lengths[0], "now": lengths[1]})
        atomic.write_json(past, steps)
        if (self.path / "result.json").is_file():
            (self.path / "result.json").replace(self.path / f"result-{step}.json")
        self.write_settings()
        console.print(
            f"{self.path}: goes on from step {step} as a longer run ({lengths[0]} before, "
            f"{lengths[1]} now); a learning rate that falls over the run follows the new length",
            highlight=False,
        )

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """The settings in which the run in the folder is another: key -> (then, now).

        Raises:
            RunFolderError: there is no run in it, or its settings cannot be read.
        """
        ignored = {*MAY_DIFFER, *self.may_differ}
        then, now = self._stored(), _flat(self._plain())
        ignored.update(key for key in self.younger if key not in then)
        pairs = {key: (then.get(key, "not set"), now.get(key, "not set")) for key in then | now}
        return {k: pair for k, pair in pairs.items() if k not in ignored and pair[0] != pair[1]}

    def write_settings(self) -> None:
        """Put the file of settings into the folder."""
        if self.file.suffix == ".yaml":
            atomic.write_text(self.file, yaml.safe_dump(dataclasses.asdict(self.settings)))
        else:
            atomic.write_json(self.file, self._plain())

    def _plain(self) -> dict[str, Any]:
        typed_settings = dataclasses.is_dataclass(self.settings)
        return as_dict(self.settings) if typed_settings else dict(self.settings)

    def _stored(self) -> dict[str, Any]:
        """The settings in the folder; a dataclass's defaults are those of keys that it lacks."""
        if not self.file.is_file():
            raise RunFolderError(
                f"{self.path}: there is no run to --resume ({self.file.name} is not there); leave "
                "--resume out to begin one"
            )
        kind = type(self.settings) if dataclasses.is_dataclass(self.settings) else None
        try:
            if kind and self.file.suffix == ".yaml":
                return as_dict(build(kind, read_settings(kind, self.file)))
            found = dict(json.loads(self.file.read_text(encoding="utf-8")))
            return as_dict(build(kind, typed(kind, found))) if kind else _flat(found)
        except (OSError, ValueError, TypeError) as error:
            what = str(error).removeprefix(f"{self.file}: ")
            raise RunFolderError(
                f"{self.file}: cannot be read ({what}); leave --resume out to begin a new run"
            ) from error

    def _left_by_earlier_run(self) -> list[Path]:
        """What runs of this kind have written into the folder, which a new one must not be mixed
        with, its settings first: without them nobody takes what a kill leaves for a run.

        Raises:
            RunFolderError: the run of another command is in the folder.
        """
        for file, prefix in KINDS:
            is_own = file == self.file.name and f"{prefix}-*.pt" in self.own
            if not is_own and (self.path / file).is_file() and checkpoint.steps(self.path, prefix):
                raise RunFolderError(
                    f"{self.path}: holds a run of another command ({file}, {prefix}-<step>.pt); "
                    "choose another folder"
                )
        entries = self.path.iterdir() if self.path.is_dir() else ()
        own = [each for each in entries if any(fnmatchcase(each.name, name) for name in self.own)]
        return sorted(own, key=lambda each: (each != self.file, each.name))

    def _set_aside(self, entries: list[Path]) -> Path:
        numbers = [int(match[1]) for each in self.path.iterdir()
                   if (match := PREVIOUS.fullmatch(each.name))]  # fmt: skip
        target = self.path / f"previous-{max(numbers, default=0) + 1}"
        target.mkdir()
        for entry in entries:
            entry.rename(target / entry.name)
        console.print(
            f"{self.path} held an earlier run; it is now in {target} (--resume would have "
            "continued it)",
            highlight=False,
        )
        return target

    # ---- What is in it ----
    def result(self) -> dict[str, Any] | None:
        """The content of ``result.json``, which a finished run has; else None."""
        path = self.path / "result.json"
        if not path.is_file():
            return None
        with checkpoint.fitting(path, "is not the result of a run; remove it"):
            return dict(json.loads(path.read_text(encoding="utf-8")))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, by which a run is known to be finished."""
        atomic.write_json(self.path / "result.json", result)


def checkpoint_in(path: str | os.PathLike[str]) -> Path:
    """The file itself, or the latest checkpoint of a folder.

    Raises:
        CheckpointError: the folder has none.
    """
    file = checkpoint.latest(path, PREFIX) if os.path.isdir(path) else Path(path)
    if file is None:
        raise CheckpointError(f"{path}: has no {PREFIX}-<step>.pt to load")
    return file


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, a gin text taken apart into its bindings."""
    if "gin" not in settings:
        return settings
    from synther.runs.gin_config import bindings_of  # offline runs need no gin

    others = {key: value for key, value in settings.items() if key != "gin"}
    return others | bindings_of(settings["gin"])

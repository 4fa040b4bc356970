"""A run's folder is claimed here, and only the same run may resume in it.

Every command that writes a folder claims it here, and every ``--resume`` is answered here. A folder
belongs to the run whose settings lie in it, in a file that each command names: ``run.json``,
``config.yaml``, ``config.json`` or ``round.json``. A run is the same run when its settings are.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from synther.files import atomic, checkpoint
from synther.files.checkpoint import CheckpointError
from synther.runs.loggers import LOG_KEYS
from synther.runs.settings import as_dict, build, read_settings, typed

PREFIX = "checkpoint"
"""An agent's checkpoints are ``checkpoint-{step}.pt``."""
MAY_DIFFER = LOG_KEYS | {"resume", "device", "threads"}
"""Keys that a resumed run may have otherwise: they say how it runs, not what it computes."""
PREVIOUS = re.compile(r"previous-(\d+)")
"""The names of the folders into which earlier runs are moved."""
console = Console(soft_wrap=True, markup=False)  # a path stays whole, brackets and all


class RunFolderError(CheckpointError):
    """A folder of another run, or one whose files cannot be read; the message names it."""


class RunFolder:
    """The folder of one run; everything in it is written whole or not at all.

    Args:
        path: of the folder, which :meth:`claim` makes.
        file: the name of the file of settings; it is YAML where it ends in ``.yaml``, else JSON.
        settings: what the results depend on: a dataclass of :mod:`synther.runs.settings`, or plain
            values by key, of which ``gin`` is a text whose bindings are compared one by one.
        may_differ: keys, beside ``MAY_DIFFER``, that a resumed run may have otherwise.
        among_others: files that are no run's may lie in the folder; a run was here only if its
            settings or a model are.
    """

    def __init__(
        self,
        path: Path,
        file: str,
        settings: Any,
        may_differ: Collection[str] = (),
        *,
        among_others: bool = False,
    ) -> None:
        self.path, self.file = path, path / file
        self.settings, self.may_differ = settings, may_differ
        self.among_others = among_others

    # ---- Whose it is ----
    def claim(self, *, resume: bool, must_exist: bool = False) -> Path | None:
        """Make the folder this run's, with its settings in it.

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
        else:
            if left := self._left_by_earlier_run():
                moved = self._set_aside(left)
            self.write_settings()
        return moved

    def require_same(self) -> None:
        """Refuse to resume the run in the folder with other settings than it was started with: the
        result would be of neither.

        Raises:
            RunFolderError: they differ; the message lists each key, then and now.
        """
        if differing := self.differences():
            lines = [f"  {key}: then {then}, now {now}" for key, (then, now) in differing.items()]
            raise RunFolderError(
                f"{self.path}: --resume needs the settings that the run was started with; give "
                "these, or leave --resume out to begin a new run\n" + "\n".join(lines)
            )

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """The settings in which the run in the folder is another: key -> (then, now).

        Raises:
            RunFolderError: there is no run in it, or its settings cannot be read.
        """
        ignored = {*MAY_DIFFER, *self.may_differ}
        then, now = self._stored(), _flat(self._plain())
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
        """The files of an earlier run, which a new one must not be mixed with: all that is in the
        folder but the runs that were set aside before."""
        if self.among_others and not (self.file.exists() or checkpoint.steps(self.path, "model")):
            return []
        entries = self.path.iterdir() if self.path.is_dir() else ()
        return [entry for entry in entries if not PREVIOUS.fullmatch(entry.name)]

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

"""The numbered folders of offline runs: what they are called, and which one a resume continues.

``{checkpoints_path}/{name}-{env}-s{seed}``, then ``-2``, ``-3``, ... where it is taken. In it:
``config.yaml``, ``metrics.jsonl``, ``checkpoint-{step}.pt`` and, once finished, ``result.json``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

from synther.corl.shared.config import RunConfig
from synther.datasets.files import stem_of
from synther.files import checkpoint
from synther.learning.learner import Agent
from synther.runs.folder import RunFolder, checkpoint_in, console
from synther.runs.lock import FolderLock
from synther.runs.settings import ConfigError, read_mapping


class NumberedFolder(RunFolder):
    """The folder of an offline run, and the lock that the run holds on it."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        lengths = ("max_timesteps", "num_epochs")
        super().__init__(path, "config.yaml", config, {"checkpoints_path"}, lengths=lengths)
        self.lock = FolderLock(path)
        self._made: list[Path] = []

    @classmethod
    def create(cls, config: RunConfig) -> NumberedFolder:
        """A new folder with the configuration in it; never one without the other."""
        first = _numbered(config, 1)
        made = [folder for folder in first.parents if not folder.exists()]
        new = first.with_name(f".{first.name}.{os.getpid()}.partial")
        try:
            cls(new, config).write_settings()
            for number in range(1, 100_000):
                path = _numbered(config, number)
                if path.exists():
                    continue
                try:
                    new.rename(path)  # claims the name: two runs may start at once
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise
                else:
                    found = cls(path, config)
                    found._made = made
                    found.lock.acquire()
                    return found
            raise ConfigError(f"{first}: all its numbers are taken")
        except OSError as error:  # the hidden name would tell nobody anything
            raise OSError(error.errno, error.strerror, os.fspath(first)) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @classmethod
    def find(cls, config: RunConfig) -> NumberedFolder | None:
        """The run that ``config`` continues, locked: of this name, env and seed, the newest
        unfinished one of the same configuration, else the newest finished one of it, else the
        newest one that ``config`` trains for longer. None without any, which is said where there
        are finished ones of other configurations.

        Raises:
            RunFolderError: there is an unfinished one, of another configuration, or one that was
                trained for longer; the message lists the keys.
            FolderInUseError: another process works on it.
        """
        runs = [cls(path, config) for path in _existing(config)]
        same = [run for run in runs if not run.differences()]
        longer = [run for run in runs if run.lengthened()]
        unfinished = [run for run in same or longer or runs if run.result() is None]
        found = next(reversed(unfinished or same or longer), None)
        if found is None and runs:
            differing = runs[-1].differences().keys()
            if differing <= {*runs[-1].lengths}:
                runs[-1].require_same()
            console.print(
                f"{runs[-1].path}: holds a finished run of other settings "
                f"({', '.join(differing)}); this is a new run, in a folder of its own",
                highlight=False,
            )
        if found is not None:
            found.lock.acquire()
            try:
                found.require_same()
            except BaseException:
                found.lock.release()
                raise
        return found

    def remove(self) -> None:
        """Take back a folder in which nothing has been trained, with those around it that were made
        for it and hold nothing else."""
        shutil.rmtree(self.path)
        self.lock.release()
        with contextlib.suppress(OSError):  # another run has come into one of them
            for folder in self._made:
                folder.rmdir()


def load_weights(agent: Agent, path: str | Path) -> None:
    """Networks and targets from the checkpoint of an earlier run, or the latest in its folder.

    Raises:
        CheckpointError: no such file, or networks of another shape.
    """
    file = checkpoint_in(path)
    state = checkpoint.load(file)
    with checkpoint.fitting(file, "its networks do not fit"):
        agent.load_state_dict(state["agent"]["networks"])


def _numbered(config: RunConfig, number: int) -> Path:
    first, last = config.seeds[0], config.seeds[-1]
    seeds = f"s{first}" if first == last else f"s{first}to{last}"
    name = f"{config.name}-{stem_of(config.env)}-{seeds}".replace("/", "_")
    return Path(config.checkpoints_path or ".") / (name if number == 1 else f"{name}-{number}")


def _algorithm_of(file: Path, unknown: str) -> str:
    """The algorithm of the run with this file of settings; ``unknown`` where it does not say."""
    try:
        return str(read_mapping(file).get("algorithm") or unknown)
    except ConfigError:
        return unknown  # whoever goes on with the run says what is wrong with its file


def _existing(config: RunConfig) -> list[Path]:
    """The folders of all runs of this algorithm, name, env and seed, oldest first."""
    first = _numbered(config, 1)
    name = re.compile(re.escape(first.name) + r"(?:-(\d+))?")
    found = {}
    for path in first.parent.glob("*/config.yaml"):
        match = name.fullmatch(path.parent.name)
        if match and _algorithm_of(path, config.algorithm) == config.algorithm:
            found[int(match[1] or 1)] = path.parent
    return [found[number] for number in sorted(found)]

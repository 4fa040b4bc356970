"""The folder of one run: its name, its configuration, its checkpoints, and which one to resume.

``{checkpoints_path}/{name}-{env}-s{seed}``, then ``-2``, ``-3``, ... where it is taken. In it:
``config.yaml``, ``metrics.jsonl``, ``checkpoint-{step}.pt`` and, once finished, ``result.json``.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from synther.corl.shared.config import RunConfig
from synther.corl.shared.parsing import load_yaml
from synther.files import atomic, checkpoint
from synther.learning.learner import Agent
from synther.runs.loggers import LOG_KEYS
from synther.runs.settings import ConfigError, as_dict

PREFIX = "checkpoint"
_MAY_DIFFER = LOG_KEYS | {"resume", "checkpoints_path", "device", "threads"}
"""Keys that a continued run may have otherwise: where and how it runs, not what it computes."""


class RunFolder:
    """One run's files. Everything is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, config: RunConfig) -> RunFolder:
        """A new folder with the configuration in it; never one without the other."""
        first = _numbered(config, 1)
        new = first.with_name(f".{first.name}.{os.getpid()}.partial")
        try:
            text = yaml.safe_dump(dataclasses.asdict(config))
            atomic.write_text(new / "config.yaml", text)
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
                    return cls(path)
            raise ConfigError(f"{first}: all its numbers are taken")
        except OSError as error:  # the hidden name would tell nobody anything
            raise OSError(error.errno, error.strerror, os.fspath(first)) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @classmethod
    def find(cls, config: RunConfig) -> RunFolder | None:
        """The run that ``config`` continues: of this name, env and seed, the newest unfinished one
        of the same configuration, else the newest finished one of it. None without any.

        Raises:
            ConfigError: there is an unfinished one, of another configuration; the message lists
                the keys.
        """
        runs = _existing(config)
        same = [run for run in runs if not run.differences(config)]
        unfinished = [run for run in same if run.result() is None]
        if same:
            found = (unfinished or same)[-1]
            atomic.remove_partials(found.path)
            return found
        others = [run for run in runs if run.result() is None]
        if others:
            keys = ", ".join(others[-1].differences(config))
            raise ConfigError(f"{others[-1].path}: cannot resume with another {keys}")
        return None

    def remove(self) -> None:
        """Take back a folder in which nothing has been trained."""
        shutil.rmtree(self.path)

    def differences(self, config: RunConfig) -> list[str]:
        """The keys in which ``config`` is not what this run was started with."""
        stored = as_dict(load_yaml(type(config), self.path / "config.yaml"))
        return [
            f"{key} (was {stored[key]}, now {value})"
            for key, value in as_dict(config).items()
            if key not in _MAY_DIFFER and stored[key] != value
        ]

    def result(self) -> dict[str, Any] | None:
        """What the finished run wrote, else None."""
        path = self.path / "result.json"
        if not path.is_file():
            return None
        with checkpoint.fitting(path, "is not the result of a run; remove it"):
            return dict(json.loads(path.read_text(encoding="utf-8")))

    def finish(self, result: Mapping[str, Any]) -> None:
        atomic.write_text(self.path / "result.json", json.dumps(result, indent=2) + "\n")

    def save(self, step: int, state: Mapping[str, Any], keep_all: bool) -> None:
        """Write the checkpoint of ``step``; then remove the earlier ones, unless all are kept."""
        checkpoint.save(self.path / f"{PREFIX}-{step}.pt", state)
        if not keep_all:
            for earlier, path in checkpoint.steps(self.path, PREFIX).items():
                if earlier < step:
                    path.unlink(missing_ok=True)

    def latest(self) -> Path | None:
        """The checkpoint to continue from."""
        return checkpoint.latest(self.path, PREFIX)


def load_weights(agent: Agent, path: str | Path) -> None:
    """Networks and targets from the checkpoint of an earlier run, or the latest in its folder.

    Raises:
        CheckpointError: no such file, or networks of another shape.
    """
    file = RunFolder(Path(path)).latest() or Path(path) if Path(path).is_dir() else Path(path)
    state = checkpoint.load(file)
    with checkpoint.fitting(file, "its networks do not fit"):
        agent.load_state_dict(state["agent"]["networks"])


def _numbered(config: RunConfig, number: int) -> Path:
    first, last = config.seeds[0], config.seeds[-1]
    seeds = f"s{first}" if first == last else f"s{first}to{last}"
    env = Path(config.env).stem if config.env.endswith((".npz", ".hdf5", ".h5")) else config.env
    name = f"{config.name}-{env}-{seeds}".replace("/", "_")
    return Path(config.checkpoints_path or ".") / (name if number == 1 else f"{name}-{number}")


def _existing(config: RunConfig) -> list[RunFolder]:
    """All runs of this name, env and seed, oldest first."""
    first = _numbered(config, 1)
    name = re.compile(re.escape(first.name) + r"(?:-(\d+))?")
    runs = {}
    for path in first.parent.glob("*/config.yaml"):
        if match := name.fullmatch(path.parent.name):
            runs[int(match[1] or 1)] = RunFolder(path.parent)
    return [runs[number] for number in sorted(runs)]

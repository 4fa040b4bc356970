"""The folder of a run: its settings, its result, and its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.pixels.config import PixelConfig
from synther.runs.loggers import LOG_KEYS
from synther.runs.settings import as_dict

PREFIX = "checkpoint"
MAY_DIFFER = LOG_KEYS | {"folder", "resume", "device", "threads", "ram_gb", "frames_cache", "root"}
"""Keys that a continued run may have otherwise: where it runs, not what it computes."""


def finished(config: PixelConfig) -> dict[str, Any] | None:
    """The result of the run in the folder, if ``resume`` was asked for and it is done.

    Raises:
        CheckpointError: the folder holds a run of other settings.
    """
    if not config.resume:
        return None
    if config.path is None:
        raise ValueError("--resume needs --folder, to know what to continue")
    _require_same(config)
    file = config.path / "result.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _require_same(config: PixelConfig) -> None:
    assert config.path is not None
    file = config.path / "config.json"
    if not file.is_file():
        return
    then, now = json.loads(file.read_text(encoding="utf-8")), as_dict(config)
    differing = [
        f"{key} (then {then.get(key)}, now {now[key]})"
        for key in now
        if key not in MAY_DIFFER and not key.startswith("recipe.") and then.get(key) != now[key]
    ]
    if differing:
        raise CheckpointError(
            f"{config.path}: --resume needs the settings that the run was started with; differing: "
            + ", ".join(differing)
        )


def checkpoint_in(path: str | Path) -> Path:
    """The file itself, or the latest checkpoint of a folder.

    Raises:
        CheckpointError: there is none.
    """
    file = checkpoint.latest(path, PREFIX) if Path(path).is_dir() else Path(path)
    if file is None:
        raise CheckpointError(f"{path}: has no {PREFIX}-<step>.pt of a pixel agent")
    return file

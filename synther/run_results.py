"""How far the runs of the RL commands have come, told from what the commands themselves wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synther import checkpoint, gin_config
from synther.gin_config import GinError
from synther.loggers import read_metrics
from synther.online.online_config import OnlineConfig
from synther.online.run_state import PREFIX


def offline_result(run: Path) -> dict[str, Any] | None:
    """What a finished offline run wrote to ``result.json``; None where there is none."""
    return read_object(run / "result.json")


def online_steps(run: Path) -> tuple[int, int]:
    """Environment steps that are safe, and steps of the whole run.

    A run is finished when the first has reached the second: its last epoch is then in
    ``metrics.jsonl`` and the checkpoint behind it on disk. ``(0, 0)`` where no run was started.
    """
    settings = read_object(run / "run.json")
    try:
        bound = gin_config.bindings_of((run / "config.gin").read_text(encoding="utf-8"))
    except (OSError, GinError):
        return 0, 0
    if settings is None:
        return 0, 0
    # Both lengths are given, so that nothing that gin holds at the moment takes their place.
    config = OnlineConfig(
        env_name=settings["env"],
        epochs=bound.get("redq_sac.epochs", "mbpo"),
        steps_per_epoch=bound.get("redq_sac.steps_per_epoch", 1000),
        target_entropy="auto",
    )
    total = config.total_steps
    saved = max(checkpoint.steps(run, PREFIX), default=0)
    logged = max((each["step"] for each in read_metrics(run / "metrics.jsonl")), default=0)
    return (total if min(saved, logged) >= total else min(saved, total - 1)), total


def read_object(path: Path) -> dict[str, Any] | None:
    """The keys and values of a JSON file; None where it is missing or not that."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None

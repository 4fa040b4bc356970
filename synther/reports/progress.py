"""How far a run of an RL command has come is read from what the command itself wrote."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from synther.online.config import OnlineConfig
from synther.runs.loggers import read_metrics


def offline_result(run: Path) -> dict[str, Any] | None:
    """What a finished offline run wrote to ``result.json``; None where there is none."""
    return read_object(run / "result.json")


def online_steps(run: Path) -> tuple[int, int]:
    """Environment steps of the last epoch in ``metrics.jsonl``, and steps of the whole run.

    A run is finished when the first has reached the second: all its evaluations are then there.
    ``(0, 0)`` where no run was started.

    Raises:
        ValueError: a line of ``metrics.jsonl`` is no record.
    """
    settings = read_object(run / "run.json")
    if settings is None or "env" not in settings:
        return 0, 0
    try:
        # Both lengths are given, so that nothing that gin holds at the moment takes their place.
        config = OnlineConfig(
            env_name=settings["env"],
            epochs=ast.literal_eval(settings.get("redq_sac.epochs", "'mbpo'")),
            steps_per_epoch=ast.literal_eval(settings.get("redq_sac.steps_per_epoch", "1000")),
            target_entropy="auto",
        )
    except (ValueError, SyntaxError):
        return 0, 0
    logged = (each["step"] for each in read_metrics(run / "metrics.jsonl"))
    return max(logged, default=0), config.total_steps


def read_object(path: Path) -> dict[str, Any] | None:
    """The keys and values of a JSON file; None where it is missing or not that."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None

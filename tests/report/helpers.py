"""Folders of runs as the commands leave them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from synther.reports.runs import Measure, Run, Runs

TD3_BC = {"policy_noise": 0.2, "name": "td3_bc", "max_timesteps": 30}


def offline_run(
    folder: Path,
    scores: Sequence[Sequence[float]],
    *,
    seeds: Sequence[int] = (0,),
    env: str = "hopper-medium-v2",
    finished: bool = True,
    measure: Measure = "score",
    **config: Any,
) -> Path:
    """A run whose evaluations, at steps 10, 20, ..., are ``scores`` ``[T, S]``."""
    folder.mkdir(parents=True)
    settings = {**TD3_BC, "env": env, **config}
    nested = {k: v for k, v in settings.items() if not k.startswith("diffusion.")}
    nested["diffusion"] = {"path": settings.get("diffusion.path")}
    (folder / "config.yaml").write_text(yaml.safe_dump(nested))
    lines = []
    for index, row in enumerate(scores):
        names = [f"/s{seed}" if len(seeds) > 1 else "" for seed in seeds]
        values = {f"eval_{measure}{n}": v for n, v in zip(names, row, strict=True)}
        if measure == "score":  # which stands beside the return that it is of
            values |= {name.replace("score", "return"): 30 * v for name, v in values.items()}
        lines += [
            {"step": 10 * index + 10, "critic_loss": 1.0},
            {"step": 10 * index + 10, **values},
        ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    result = {
        "seeds": list(seeds),
        "eval_env": config.get("eval_env", "Hopper-v2"),
        "steps": 10 * len(scores),
        "last_score": None,
        "last_return": [30 * value for value in scores[-1]],
        f"last_{measure}": list(scores[-1]),
        "config": settings,
    }
    if finished:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def run_of(
    values: Sequence[float],
    *,
    task: str = "t",
    method: str = "TD3+BC",
    seed: int = 0,
    measure: Measure = "score",
    online: bool = False,
) -> Run:
    steps = np.arange(10, 10 * len(values) + 1, 10)
    return Run(task, method, seed, measure, steps, np.array(values), online, Path("x"))


def runs_of(*runs: Run) -> Runs:
    return Runs(runs, ())

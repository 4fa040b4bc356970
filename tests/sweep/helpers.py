"""Studies and jobs that tests share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from synther.sweeps.jobs import Job
from synther.sweeps.study import Study, load_study

SMALL: dict[str, Any] = {
    "name": "small",
    "offline": [{"data_sets": ["hopper-demo-v0"], "algorithms": ["td3_bc"], "seeds": [0, 1]}],
}
COUNT = """
import pathlib, sys
run = pathlib.Path(sys.argv[1])
run.mkdir(parents=True, exist_ok=True)
starts = run / "starts"
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
"""
"""The beginning of a command that counts its starts in the folder of its first argument."""


def study_of(tmp_path: Path, content: dict[str, Any]) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    return load_study(file)


def fake_job(tmp_path: Path, name: str, body: str, needs: tuple[str, ...] = ()) -> Job:
    """A job whose command is ``body``; it is done when ``run/result`` is there.

    In ``body``, ``run`` is the path of its folder, and ``starts`` of a file with a letter a start.
    """
    script = tmp_path / f"{name.replace('/', '_')}.py"
    script.write_text(COUNT + body)
    words = ("{folder}/" + name + "/run",)
    return Job(name, "data", str(script), words, needs=needs, output="result")


def starts_of(job: Job, root: Path) -> int:
    file = job.run(root) / "starts"
    return len(file.read_text()) if file.exists() else 0


SUCCEED = "(run / 'result').write_text('done')\n"


def finish_offline(run: Path, seeds: list[int], **more: Any) -> None:
    """What a finished offline run leaves."""
    run.mkdir(parents=True)
    (run / "result.json").write_text(json.dumps({"seeds": seeds, **more}))


def finish_online(run: Path, epochs: int, *, steps: int, env: str = "Hopper-v2") -> None:
    """An online run of ``epochs`` epochs of 100 steps that has come to ``steps``."""
    run.mkdir(parents=True)
    settings = {
        "env": env, "seed": 0, "redq_sac.epochs": str(epochs), "redq_sac.steps_per_epoch": "100"
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(settings))
    lines = [
        json.dumps({"step": step, "AverageTestEpRet": float(step)})
        for step in range(100, steps + 1, 100)
    ]
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))

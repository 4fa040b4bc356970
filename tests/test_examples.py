"""The examples run as they are written, and stay short."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from synther import report, sweep
from synther.reports.runs import read_runs
from synther.runs.loggers import read_metrics
from synther.transitions import Transitions

EXAMPLES = Path(__file__).parents[1] / "examples"
# What an example needs beside the core, and what it says in the end.
SCRIPTS = {
    "upsample_your_data": ((), r"look like held-out real rows.*law of motion by 0\.[01]\d+"),
    "cleanrl_style_sac": ((), r"returns of the first and the last five episodes"),
    "sb3_sac": (("stable_baselines3",), r"return after 3900 steps: -\d+"),
    "d3rlpy_td3_bc": (("d3rlpy", "mujoco"), r"mean return of TD3\+BC in Hopper-v2: \d+"),
    "minari_dataset": (("minari",), r"synthetic-v0: 2000 steps, 2000 episodes"),
}


def test_every_example_is_here() -> None:
    others = {"demo", "new_algorithm"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SCRIPTS, *others}


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "cleanrl_style_sac"])
def test_an_example_with_a_library_is_40_lines_at_most(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    needed, expected = SCRIPTS[name]
    for library in needed:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"needs {library}")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "500"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(expected, done.stdout, re.DOTALL), done.stdout


def test_the_new_algorithm_is_short():
    assert len((EXAMPLES / "new_algorithm.py").read_text().splitlines()) <= 60


@pytest.fixture
def cloned(tmp_path: Path) -> Path:
    """Transitions of Pendulum's widths whose actions are a function of their states."""
    states = np.random.default_rng(0).normal(size=(500, 3))
    columns = {
        "observations": states,
        "actions": np.tanh(states[:, :1] - 2 * states[:, 1:2]),
        "rewards": np.zeros(500),
        "next_observations": states,
        "terminals": np.zeros(500),
    }
    data = Transitions.from_arrays(columns, metadata={"env_id": "Pendulum-v1"})
    return data.save(tmp_path / "cloned.npz")


def test_the_new_algorithm_learns_and_resumes(
    cloned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = f"--env {cloned} --checkpoints_path {tmp_path} --max_timesteps 400 --eval_freq 400 "
    words += "--n_episodes 1 --batch_size 64 --log_every 100 --learning_rate 3e-3 --num_seeds 2"
    script = str(EXAMPLES / "new_algorithm.py")
    for more in ([], ["--resume"]):
        monkeypatch.setattr("sys.argv", [script, *words.split(), *more])
        runpy.run_path(script, run_name="__main__")
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith("BC on Pendulum-v1, trained on the data set")
    records = read_metrics(tmp_path / "BC-cloned-s0to1/metrics.jsonl")
    actions = Transitions.load(cloned).actions
    for seed in (0, 1):
        losses = [each[f"cloning_loss/s{seed}"] for each in records if "updates_per_second" in each]
        # It explains nearly all of the actions' variance, which a constant action leaves.
        assert losses[-1] < 0.05 * actions.var()
    (run, _) = read_runs([tmp_path]).finished
    assert run.method == "BC"


def test_a_study_and_its_report_know_the_new_algorithm_by_its_path(
    cloned: Path, tmp_path: Path
) -> None:
    grid = {
        "data_sets": [str(cloned)],
        "algorithms": ["examples/new_algorithm.py", "iql"],
        "seeds": [0],
        "synther": [False],
        "arguments": {"max_timesteps": 4, "eval_freq": 2, "n_episodes": 1, "network_width": 8},
        "algorithm_arguments": {"examples/new_algorithm.py": {"learning_rate": 0.01}},
        "variants": {"small": {"batch_size": 8}},
    }
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump({"name": "new", "offline": [grid]}))
    words = ["--study", str(study), "--folder", str(tmp_path / "new")]
    sweep.main([*words, "--dry_run"])
    sweep.main([*words, "--job", "offline/bc-small-cloned-real-s0"])
    report.main([str(tmp_path / "new")])
    summary = json.loads((tmp_path / "new/report/summary.json").read_text())
    (cell,) = summary["groups"][0]["cells"]
    assert (cell["task"], cell["method"]) == ("cloned", "BC (small)")

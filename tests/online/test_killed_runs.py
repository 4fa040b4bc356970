"""Runs in processes of their own, killed by SIGKILL and resumed by the command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from synther.files import checkpoint
from synther.learning.replay import RowBuffer
from synther.online.row_log import RowLog
from synther.runs.loggers import read_metrics
from synther.transitions import TransitionLayout
from tests.online.helpers import logs
from tests.online.test_run_files import assert_equal

REPOSITORY = Path(__file__).parents[2]
SETTINGS = (
    "redq_sac.epochs = 5", "redq_sac.checkpoint_every = 0.05", "redq_sac.utd_ratio = 4",
    "redq_sac.evaluate_bias = True", "REDQTrainer.train_num_steps = 400",
    "REDQTrainer.resume_every = 0.05", "redq_sac.replay_size = 250",
)  # fmt: skip
CONFIGS = {
    "HalfCheetah-v2": "config/online/sac_synther_openai.gin",
    "cheetah-run-v0": "config/online/sac_synther_dmc.gin",
}


def start(results: Path, env: str, *more: str) -> subprocess.Popen[bytes]:
    words = [
        *(sys.executable, str(REPOSITORY / "synther/online/online_exp.py"), "--env", env),
        *("--exp_name", "try", "--results_folder", str(results), "--device", "cpu", "--debug"),
        *("--threads", "1", "--gin_config_files", CONFIGS[env], *more, "--gin_params", *SETTINGS),
    ]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def folder_of(results: Path, env: str) -> Path:
    return results / f"try_{env}" / f"try_{env}_s0"


def latest_step(folder: Path) -> int:
    return max(checkpoint.steps(folder, "checkpoint"), default=0)


# When to kill, told from the run's folder.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "before updates": lambda folder: 0 < latest_step(folder) < 100,
    "in the first epoch's end": lambda folder: latest_step(folder) >= 99,
    "while the first model trains": lambda folder: bool(
        list(folder.glob("diffusion/round-0/resume-*.pt"))
    ),
    "after the first refill": lambda folder: (folder / "synthetic-1.npy").exists(),
    "in the second half": lambda folder: latest_step(folder) > 250,
}


def final_state(folder: Path) -> dict[str, Any]:
    """Everything of the last checkpoint, and the rows that lie beside it."""
    state = checkpoint.load(folder / "checkpoint-500.pt")
    state.pop("seconds")
    networks = state["agent"]["networks"]
    outputs = networks["actor.layers.2.bias"].shape[-1]
    states = networks["actor.layers.0.weight"].shape[-2]
    replay = RowBuffer(TransitionLayout(states, outputs // 2), 250)
    RowLog(folder / "replay").read(replay, 500)
    synthetic = (folder / "synthetic-2.npy").read_bytes()
    return {**state, "rows": replay.state_dict(), "synthetic": synthetic, **logs(folder)}


@pytest.mark.slow
@pytest.mark.parametrize("env", CONFIGS)
def test_killed_at_every_moment_and_resumed_to_the_same_bits(env: str, tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    assert start(tmp_path / "whole", env).wait() == 0
    folder = folder_of(tmp_path / "killed", env)
    process = start(tmp_path / "killed", env)
    for moment, reached in MOMENTS.items():
        deadline = time.monotonic() + 300
        while not reached(folder) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, f"the run ended before it was killed {moment}"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process = start(tmp_path / "killed", env, "--resume")
    assert process.wait() == 0
    assert_equal(final_state(folder), final_state(folder_of(tmp_path / "whole", env)))
    steps = [each["step"] for each in read_metrics(folder / "metrics.jsonl")]
    assert steps == [100, 200, 300, 400, 500]
    assert not list(folder.rglob("*.partial"))


@pytest.mark.slow
def test_the_disk_holds_a_bounded_number_of_rows(tmp_path: Path) -> None:
    env = "HalfCheetah-v2"
    assert start(tmp_path, env).wait() == 0
    folder = folder_of(tmp_path, env)
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-500.pt"]
    assert [path.name for path in folder.glob("synthetic-*")] == ["synthetic-2.npy"]
    assert [path.name for path in (folder / "replay").iterdir()] == ["rows-0-500.npy"]
    assert [path.name for path in (folder / "diffusion").iterdir()] == ["round-1"]
    weights = checkpoint.load(folder / "checkpoint-500.pt")["agent"]["networks"]
    assert all(torch.isfinite(each).all() for each in weights.values())

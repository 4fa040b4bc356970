"""Names of devices, and runs that keep to theirs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared.config import DiffusionConfig
from synther.corl.shared.runner import run
from synther.envs import Evaluator
from synther.online.config import OnlineConfig
from synther.online.loop import OnlineRun
from synther.runs.processes import accelerator_for
from synther.runs.runtime import resolve_device
from synther.transitions import TransitionLayout
from tests.corl.helpers import write_dataset, write_model
from tests.diffusion.models import tiny_trainer
from tests.fake_cuda.helpers import only_emulated, two_devices
from tests.online.helpers import TINY_RUN, bind_tiny_diffusion

pytestmark = pytest.mark.gpu


def touched() -> set[int]:
    found: set[int] = sys.modules["tests.fake_cuda.host_api"].STATE.touched
    return found


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_device_has_its_number(name: str) -> None:
    device = resolve_device(name)
    assert device == torch.zeros(1, device=name.replace("auto", "cuda")).device
    assert accelerator_for(device).device == device


@two_devices
def test_a_device_without_a_number_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.cuda.device(1):
        assert resolve_device("cuda") == resolve_device("auto") == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each of them gets its own later
    assert resolve_device("cuda").index is None


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"device 'cuda:99'.*sees \d+ CUDA devices"):
        resolve_device("cuda:99")


@only_emulated
@pytest.mark.parametrize("compile", ["off", "cudagraph"])
def test_an_offline_run_keeps_to_its_device(tmp_path: Path, compile: Any) -> None:
    model = write_model(tmp_path / "model.pt", TransitionLayout(3, 1))
    config = TD3BCConfig(
        env=str(write_dataset(tmp_path / "data.npz")), device="cuda:1", compile=compile,
        max_timesteps=14, eval_freq=7, log_every=4, n_episodes=1, batch_size=8, network_width=8,
        checkpoints_path=str(tmp_path / "runs"),
        diffusion=DiffusionConfig(str(model), num_steps=3, batch_parallelism=4),
    )  # fmt: skip
    assert run(config, TD3BC)["steps"] == 14
    assert touched() == {1}


@only_emulated
def test_an_online_run_keeps_to_its_device(tmp_path: Path) -> None:
    bind_tiny_diffusion()
    keys = {**TINY_RUN, "disable_diffusion": False, "epochs": 2}
    config = OnlineConfig(env_name="Counter-v0", **keys)
    OnlineRun(config, tmp_path, device=torch.device("cuda:1"), threads=1).train()
    assert touched() == {1}


def test_an_evaluation_leaves_the_generators_of_a_gpu_alone() -> None:
    before = torch.cuda.get_rng_state_all()
    with Evaluator("Pendulum-v1", 1) as evaluator:
        evaluator.run(lambda observations: np.zeros((1, 1, 1)), [3])
    for state, now in zip(before, torch.cuda.get_rng_state_all(), strict=True):
        assert torch.equal(state, now)


@only_emulated
def test_the_diffusion_trainer_keeps_to_its_device(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, 12, device="cuda:1")
    trainer.train()
    assert next(trainer.diffusion_model.parameters()).device == torch.device("cuda:1")
    assert touched() == {1}

"""A run that was killed on one kind of device goes on on the other."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synther.corl.algorithms.iql import IQL, IQLConfig
from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared.config import DiffusionConfig, RunConfig
from synther.corl.shared.runner import run
from synther.learning.graphs import graphed
from synther.learning.learner import Agent
from synther.learning.streams import BlockStream, generators_for, restore_generators
from synther.online.config import OnlineConfig
from synther.online.loop import OnlineRun
from synther.pixels import stages
from synther.transitions import TransitionLayout
from tests.corl.helpers import write_dataset, write_model
from tests.corl.test_runner import Interrupted, interrupt_at
from tests.fake_cuda.helpers import agent_on, largest_difference, noise_of, train
from tests.online.helpers import TINY_RUN, bind_tiny_diffusion
from tests.pixels.helpers import config as pixel_config
from tests.pixels.helpers import data_set
from tests.pixels.test_stages import Killed, kill_at

pytestmark = pytest.mark.gpu
DIRECTIONS = [("cpu", "cuda"), ("cuda", "cpu")]
MOVED = "run on another kind of device"


@pytest.mark.parametrize(("first", "second"), DIRECTIONS)
@pytest.mark.parametrize(
    ("config_class", "build", "on_the_fly"),
    [(TD3BCConfig, TD3BC, True), (IQLConfig, IQL, False)],
    ids=["td3_bc on the fly", "iql"],
)
def test_an_offline_run_moves(
    first: str,
    second: str,
    config_class: type[RunConfig],
    build: type[Agent],
    on_the_fly: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of a pool of rows, and of the block of noise."""
    diffusion = DiffusionConfig()
    if on_the_fly:
        model = write_model(tmp_path / "model.pt", TransitionLayout(3, 1))
        diffusion = DiffusionConfig(str(model), num_steps=3, batch_parallelism=7)

    def configuration(device: str, **more: Any) -> Any:
        return config_class(
            env=str(write_dataset(tmp_path / "data.npz")), max_timesteps=12, eval_freq=5,
            n_episodes=1, batch_size=8, checkpoints_path=str(tmp_path / "runs"), device=device,
            diffusion=diffusion, network_width=8, **more,
        )  # fmt: skip

    with monkeypatch.context() as patch:
        interrupt_at(patch, build, 9)
        with pytest.raises(Interrupted):
            run(configuration(first), build)
    with pytest.warns(UserWarning, match=MOVED):
        result = run(configuration(second, resume=True), build)
    assert result["steps"] == 12


@pytest.mark.parametrize(("first", "second"), DIRECTIONS)
def test_an_online_run_moves(
    first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind_tiny_diffusion()
    keys = {**TINY_RUN, "disable_diffusion": False, "epochs": 2, "checkpoint_every": 0.0}
    config = OnlineConfig(env_name="Counter-v0", **keys)

    def on(device: str, resume: bool) -> OnlineRun:
        return OnlineRun(config, tmp_path, device=torch.device(device), threads=1, resume=resume)

    interact, left = OnlineRun._interact, [31]

    def dies(self: OnlineRun) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        interact(self)

    with monkeypatch.context() as patch:
        patch.setattr(OnlineRun, "_interact", dies)
        with pytest.raises(Killed):
            on(first, False).train()
    with pytest.warns(UserWarning, match=MOVED):
        resumed = on(second, True)
    assert 20 <= resumed.step <= 30
    resumed.train()
    assert resumed.step == 40
    assert next(resumed.agent.parameters()).device.type == second


@pytest.mark.parametrize(("first", "second"), DIRECTIONS)
def test_a_pixel_run_moves(
    first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "evaluation", lambda *_: lambda agent: np.zeros(2))
    data_set(tmp_path)
    folder = str(tmp_path / "run")

    def settings(device: str) -> Any:
        return pixel_config(root=str(tmp_path), folder=folder, device=device, resume=True)

    with monkeypatch.context() as patch:
        kill_at(patch, 5)
        with pytest.raises(Killed):
            stages.train(settings(first))
    with pytest.warns(UserWarning, match=MOVED):
        assert stages.train(settings(second))["steps"] == 12


@pytest.mark.parametrize("algorithm", ["td3_bc", "iql"])
def test_a_cpu_checkpoint_goes_on_in_graphs_as_it_does_eagerly(algorithm: str) -> None:
    """Read as a run reads it, and with tensors that are still on the CPU."""
    before = agent_on("cpu", algorithm, max_timesteps=30)
    train(before, before.update, noise_of(before), range(1, 6))
    agents = [agent_on("cuda", algorithm, max_timesteps=30) for _ in range(2)]
    for agent in agents:
        agent.load_training_state(before.training_state())
        for optimizer in agent.optimizers().values():
            assert all(group["capturable"] for group in optimizer.param_groups)
    eager, captured = agents
    train(eager, eager.update, noise_of(eager), range(6, 24))
    train(captured, graphed(captured), noise_of(captured), range(6, 24))
    moved = largest_difference(before.parameters(), eager.parameters())
    assert largest_difference(eager.parameters(), captured.parameters()) < 1e-3 * moved
    back = agent_on("cpu", algorithm, max_timesteps=30)
    back.load_training_state(captured.training_state())
    for optimizer in back.optimizers().values():
        assert not any(group["capturable"] for group in optimizer.param_groups)


def test_one_warning_says_that_streams_begin_anew() -> None:
    def stream(device: str) -> BlockStream:
        def draw(generator: torch.Generator, updates: int) -> tuple[torch.Tensor, ...]:
            return (torch.randn(updates, 2, generator=generator, device=generator.device),)

        return BlockStream(draw, generators_for([1, 2], "noise", device))

    stored, ours, fresh = stream("cpu"), stream("cuda"), stream("cuda")
    for _ in range(5):
        stored.next()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(2):
            ours.load_state_dict(stored.state_dict())
    assert [MOVED in str(each.message) for each in said] == [True]
    assert torch.equal(ours.next()[0], fresh.next()[0])


def test_a_damaged_state_is_no_other_device() -> None:
    with pytest.raises(RuntimeError, match="RNG state"):
        restore_generators([torch.Generator("cuda")], [torch.zeros(7, dtype=torch.uint8)])

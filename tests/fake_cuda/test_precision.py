"""Which precision products have on a GPU: TF32 where a run says so, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared.runner import run
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.online.config import OnlineConfig
from synther.online.loop import OnlineRun
from synther.pixels import stages
from synther.runs import runtime
from tests.corl.helpers import write_dataset
from tests.diffusion.models import LAYOUT, tiny_model, tiny_trainer
from tests.fake_cuda.helpers import only_emulated
from tests.online.helpers import TINY_RUN, bind_tiny_diffusion
from tests.pixels.helpers import config as pixel_config
from tests.pixels.helpers import data_set

pytestmark = pytest.mark.gpu
emulated_runs = pytest.mark.parametrize("precision", ["fp32", "tf32"])


@pytest.fixture(autouse=True)
def _switches_are_put_back() -> Iterator[None]:
    """Whatever a run does inside, afterwards they are as torch has them at first."""
    yield
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32


def products() -> set[tuple[str, bool]]:
    found: set[tuple[str, bool]] = sys.modules["tests.fake_cuda.host_api"].STATE.products
    return found


@only_emulated
@emulated_runs
def test_an_offline_run(tmp_path: Path, precision: Any) -> None:
    """Losses and gradients of all updates, and the actions of evaluations."""
    config = TD3BCConfig(
        env=str(write_dataset(tmp_path / "data.npz")), device="cuda", precision=precision,
        max_timesteps=3, eval_freq=3, n_episodes=1, batch_size=8, network_width=8,
    )  # fmt: skip
    run(config, TD3BC)
    assert products() == {("matrices", precision == "tf32")}


@only_emulated
@emulated_runs
def test_a_pixel_run(tmp_path: Path, precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "evaluation", lambda *_: lambda agent: np.zeros(2))
    data_set(tmp_path)
    stages.train(
        pixel_config(root=str(tmp_path), device="cuda", precision=precision, max_timesteps=2)
    )
    tf32 = precision == "tf32"
    assert products() == {("matrices", tf32), ("convolutions", tf32)}


@only_emulated
@emulated_runs
def test_the_diffusion_trainer_and_its_samples(precision: Any) -> None:
    trainer = tiny_trainer(None, 2, device="cuda", precision=precision)
    trainer.train()
    assert products() == {("matrices", precision == "tf32")}
    products().clear()
    sampler = SimpleDiffusionGenerator(LAYOUT, tiny_model().to("cuda"), 3, precision=precision)
    sampler.sample(20, seed=0)
    assert products() == {("matrices", precision == "tf32")}


@only_emulated
def test_an_online_run_in_tf32_has_a_diffusion_model_of_its_own_precision() -> None:
    bind_tiny_diffusion()
    keys = {**TINY_RUN, "disable_diffusion": False, "epochs": 2, "precision": "tf32"}
    config = OnlineConfig(env_name="Counter-v0", **keys)
    OnlineRun(config, None, device=torch.device("cuda"), threads=1).train()
    assert products() == {("matrices", True), ("matrices", False)}


@pytest.mark.skipif("tests.fake_cuda.host_api" in sys.modules, reason="has no TF32 of its own")
def test_a_gpu_rounds_to_tf32_where_it_should() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 512, 512, generator=generator)
    exact = one.double() @ other.double()
    device, errors = torch.device("cuda"), {}
    for precision in ("fp32", "tf32"):
        with runtime.float32_products(device, precision):  # type: ignore[arg-type]
            product = one.to(device) @ other.to(device)
        errors[precision] = float((product.cpu().double() - exact).std() / exact.std())
    assert errors["fp32"] < 1e-6
    assert 1e-5 < errors["tf32"] < 2e-3

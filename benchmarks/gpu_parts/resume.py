"""Runs that are stopped go on: bit for bit on the same GPU, and on the other kind of device."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gin
import numpy as np
import torch

from gpu_parts.check import Check, apart
from gpu_parts.subjects import OFFLINE, SMALL
from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared.config import DiffusionConfig
from synther.corl.shared.runner import run as run_offline
from synther.diffusion.training.trainer import Trainer
from synther.diffusion.utils import construct_diffusion_model
from synther.files import checkpoint
from synther.learning.graphs import graphed
from synther.online.config import OnlineConfig
from synther.online.loop import OnlineRun
from synther.runs import gin_config
from synther.transitions import TransitionLayout, Transitions

PENDULUM = TransitionLayout(3, 1)
DIFFUSION = (
    "construct_diffusion_model.denoising_network = @ResidualMLPDenoiser",
    "construct_diffusion_model.normalizer_type = 'standard'",
    "ResidualMLPDenoiser.mlp_width = 16", "ResidualMLPDenoiser.num_layers = 1",
    "ResidualMLPDenoiser.dim_t = 8", "REDQTrainer.train_num_steps = 20",
    "REDQTrainer.train_batch_size = 16", "SimpleDiffusionGenerator.num_sample_steps = 3",
)  # fmt: skip
STEPS, STOPPED = 40, 27


class Stopped(Exception):
    """In place of a kill."""


def run(check: Check) -> None:
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that streams begin anew is what is wanted here
        folder = Path(name)
        data = _data(folder)
        model = _model(folder, data, check)
        for source in ("", str(model)):
            _same_bits(check, folder, data, source)
        for first, second in ((check.device, "cpu"), ("cpu", check.device)):
            if not check.is_late():
                _offline_moves(check, folder, data, str(model), str(first), str(second))
            if not check.is_late():
                _online_moves(check, folder, str(first), str(second))
        _into_graphs(check)


def _data(folder: Path) -> Path:
    """Random transitions of Pendulum's widths, whose simulator gymnasium brings along."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, PENDULUM.row_dim)).astype(np.float32)
    rows[:, -1] = rng.random(400) < 0.05
    unpacked = PENDULUM.unpack(rows, metadata={"env_id": "Pendulum-v1"})
    return Transitions(**unpacked.arrays(), metadata=unpacked.metadata).save(folder / "data.npz")


def _model(folder: Path, data: Path, check: Check) -> Path:
    rows = PENDULUM.pack(Transitions.load(data))
    with gin.unlock_config():
        gin_config.parse(bindings=list(DIFFUSION))
    model = construct_diffusion_model(rows, layout=PENDULUM)
    trainer = Trainer(
        model, rows, train_num_steps=20, small_batch_size=32, results_folder=folder / "model",
        device=str(check.device), seed=0, layout=PENDULUM,
    )  # fmt: skip
    trainer.train()
    return folder / "model" / "model-20.pt"


def _config(folder: Path, name: str, data: Path, source: str, device: Any, **more: Any) -> Any:
    diffusion = DiffusionConfig(source, num_steps=3, batch_parallelism=9) if source else None
    keys = {"diffusion": diffusion} if diffusion else {}
    return TD3BCConfig(
        env=str(data), name=name, device=str(device), checkpoints_path=str(folder / "runs"),
        max_timesteps=STEPS, eval_freq=10, n_episodes=1, batch_size=8, network_width=16,
        log_every=10, **keys, **more,
    )  # fmt: skip


@contextmanager
def _stopped_at(owner: Any, method: str, call: int) -> Iterator[None]:
    """Let a method's call of that number fail."""
    plain, left = getattr(owner, method), [call]

    def failing(self: Any, *given: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Stopped
        return plain(self, *given)

    setattr(owner, method, failing)
    try:
        yield
    except Stopped:
        pass
    finally:
        setattr(owner, method, plain)


def _same_bits(check: Check, folder: Path, data: Path, source: str) -> None:
    """With kernels that are deterministic; on the fly the run stops in the middle of a pool."""
    what = "on the fly" if source else "from a data set"
    states = []
    for name in ("whole", "stopped"):
        word = f"{name}{bool(source)}"
        config = _config(folder, word, data, source, check.device, deterministic=True)
        if name == "stopped":
            with _stopped_at(TD3BC, "variant", STOPPED):
                run_offline(config, TD3BC)
            config.resume = True
        run_offline(config, TD3BC)
        states.append(_networks(folder / "runs", word))
    torch.use_deterministic_algorithms(False)
    same = all(torch.equal(one, other) for one, other in zip(*states, strict=True))
    check.expect(same, f"a resumed offline run {what} differs from one that was never stopped")


def _networks(runs: Path, name: str) -> list[torch.Tensor]:
    (folder,) = runs.glob(f"{name}-*")
    path = checkpoint.latest(folder, "checkpoint")
    assert path is not None
    return list(checkpoint.load(path)["agent"]["networks"].values())


def _offline_moves(
    check: Check, folder: Path, data: Path, source: str, first: str, second: str
) -> None:
    name = f"from-{first}".replace(":", "")
    with _stopped_at(TD3BC, "variant", STOPPED):
        run_offline(_config(folder, name, data, source, first), TD3BC)
    result = run_offline(_config(folder, name, data, source, second, resume=True), TD3BC)
    check.expect(result["steps"] == STEPS, f"an offline run from {first} to {second} stopped early")


def _online_moves(check: Check, folder: Path, first: str, second: str) -> None:
    with gin.unlock_config():
        gin_config.parse(bindings=list(DIFFUSION))
    config = OnlineConfig(
        env_name="Pendulum-v1", epochs=2, steps_per_epoch=20, start_steps=5, hidden_sizes=(16, 16),
        batch_size=8, replay_size=100, utd_ratio=2, num_Q=2, max_ep_len=15, n_evals_per_epoch=1,
        target_entropy="auto", disable_diffusion=False, retrain_diffusion_every=15,
        num_samples=50, diffusion_buffer_size=50, checkpoint_every=0.0, print_buffer_stats=False,
    )  # fmt: skip
    place = folder / f"online-{first}".replace(":", "")

    def on(device: str, resume: bool) -> OnlineRun:
        return OnlineRun(config, place, device=torch.device(device), threads=1, resume=resume)

    with _stopped_at(OnlineRun, "_interact", STOPPED):
        on(first, False).train()
    resumed = on(second, True)
    begun = resumed.step
    resumed.train()
    good = 0 < begun < resumed.step == config.total_steps
    check.expect(good, f"an online run from {first} to {second} did not go on at step {begun}")


def _into_graphs(check: Check) -> None:
    """A training state of the CPU goes on in graphs as it does eagerly."""
    for name in ("TD3+BC", "IQL"):
        before = OFFLINE[name](torch.device("cpu"), SMALL, "fp32")
        for number in range(1, 6):
            before.step(number)
        after = []
        for graph in (False, True):
            subject = OFFLINE[name](check.device, SMALL, "fp32")
            subject.module.load_training_state(before.module.training_state())
            update = graphed(subject.module) if graph else subject.module.update
            subject._update = update
            for number in range(6, 31):
                subject.step(number)
            after.append(subject.parameters())
        check.near(apart(after[1], after[0]), 1e-4, f"{name}: a CPU's checkpoint in graphs")

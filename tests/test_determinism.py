"""Every command, run twice with the same seed, writes the same bits; only times may differ."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest
import torch

from synther.diffusion import train_diffuser
from synther.files import checkpoint
from tests.corl.helpers import write_dataset

REPOSITORY = Path(__file__).parents[1]
TRAINING = shlex.split("""
    --dataset ../data.npz --results_folder run --no_use_gpu --threads 1 --deterministic
    --save_num_samples 130 --save_file_name samples.npz --gin_params
    ResidualMLPDenoiser.mlp_width=16 ResidualMLPDenoiser.num_layers=1 ResidualMLPDenoiser.dim_t=8
    SimpleDiffusionGenerator.num_sample_steps=4 SimpleDiffusionGenerator.sample_batch_size=50
    Trainer.small_batch_size=32 Trainer.save_and_sample_every=60 Trainer.log_every=10
    Trainer.train_num_steps=130
""")
EVALUATION = shlex.split("""
    --real ../data.npz --synthetic ../run/samples.npz ../run/model-130.pt --output fidelity
    --baselines noise,multiplicative --num_samples 200 --num_steps 4 --max_rows 100
    --log_likelihood --device cpu --threads 1
""")
OFFLINE = shlex.split("""
    --env ../data.npz --checkpoints_path runs --device cpu --max_timesteps 20 --eval_freq 10
    --n_episodes 1 --batch_size 8 --log_every 5 --seed 3
""")
GENERATED = shlex.split("""
    --network_width 8 --diffusion.path ../run/model-130.pt --diffusion.num_steps 3
    --diffusion.batch_parallelism 2
""")
ONLINE = shlex.split("""
    --env Pendulum-v1 --results_folder runs --debug --device cpu --threads 1
    --gin_config_files config/online/sac_synther_openai.gin --save_replay replay.npz --gin_params
    redq_sac.epochs=2 redq_sac.steps_per_epoch=20 redq_sac.start_steps=10
    redq_sac.n_evals_per_epoch=1 redq_sac.max_ep_len=15 redq_sac.retrain_diffusion_every=20
    redq_sac.num_samples=30 REDQTrainer.train_num_steps=20
    SimpleDiffusionGenerator.num_sample_steps=3
""")
COMMANDS = {
    "td3_bc": ("corl.algorithms.td3_bc", [*OFFLINE, "--network_width", "8"]),
    "generated": ("corl.algorithms.td3_bc", [*OFFLINE, *GENERATED]),
    "iql": ("corl.algorithms.iql", [*OFFLINE, "--network_width", "8"]),
    "edac": ("corl.algorithms.edac", [*OFFLINE, "--hidden_dim", "8", "--num_critics", "3"]),
    "cql": ("corl.algorithms.cql", [*OFFLINE, "--network_width", "8", "--cql_n_actions", "2"]),
    "online_exp": ("online.online_exp", ONLINE),
    "train_diffuser": ("diffusion.train_diffuser", TRAINING),
    "evaluate_samples": ("diffusion.evaluate_samples", EVALUATION),
}


@pytest.fixture(autouse=True)
def _clean_state() -> Iterator[None]:
    yield
    gin.clear_config()
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and a finished run of ``train_diffuser.py`` on it."""
    root = tmp_path_factory.mktemp("determinism")
    write_dataset(root / "data.npz")
    with pytest.MonkeyPatch.context() as patch:
        folder = root / "first"
        folder.mkdir()
        patch.chdir(folder)
        train_diffuser.main(TRAINING)
    (folder / "run").rename(root / "run")
    return root


def contents(folder: Path) -> dict[str, Any]:
    """What every file under ``folder`` holds, in values that compare by ``==``, without times."""
    return {
        str(path.relative_to(folder)): without_times(read(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read(path: Path) -> Any:
    if path.suffix == ".pt":
        return checkpoint.load(path)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.name == "progress.txt":
        names, *rows = (line.split("\t") for line in path.read_text().splitlines())
        return [dict(zip(names, row, strict=True)) for row in rows]
    return path.read_bytes()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not is_time(str(k))}
    if isinstance(value, (list, tuple)):
        return [without_times(each) for each in value]
    if isinstance(value, torch.Tensor):
        return without_times(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value


def is_time(key: str) -> bool:
    # generation_share is the part of the time that was spent waiting for generated rows.
    return key.lower() in ("time", "generation_share") or "second" in key.lower()


def assert_same_files(first: Path, second: Path) -> None:
    ours, theirs = contents(first), contents(second)
    assert ours
    assert ours.keys() == theirs.keys()
    differing = [name for name in ours if ours[name] != theirs[name]]
    assert not differing


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "evaluate_samples" else ())
        for name in COMMANDS
        if name != "train_diffuser"
    ],
)
def test_a_command_run_twice_writes_the_same_bits(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process, whose generators stand elsewhere the second time."""
    module, words = COMMANDS[name]
    for folder in (root / f"{name}-1", root / f"{name}-2"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["command", *words])
        importlib.import_module(f"synther.{module}").main()
        gin.clear_config()
        torch.rand(3), np.random.rand(3)  # noqa: NPY002
    assert_same_files(root / f"{name}-1", root / f"{name}-2")


def test_training_a_model_twice_writes_the_same_bits(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "again").mkdir()
    monkeypatch.chdir(root / "again")
    train_diffuser.main(TRAINING)
    assert_same_files(root / "run", root / "again" / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_two_processes_write_the_same_bits(name: str, root: Path) -> None:
    """With hashes, and so the order of sets, that differ."""
    module, words = COMMANDS[name]
    script = REPOSITORY / "synther" / (module.replace(".", "/") + ".py")
    folders = [root / f"{name}-process-{number}" for number in (1, 2)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        subprocess.run(
            [sys.executable, str(script), *words],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            check=True,
            capture_output=True,
        )
    assert_same_files(*folders)


def test_what_differs_is_found(tmp_path: Path) -> None:
    for name, number, seconds in (("a", 1, 0.5), ("b", 1, 0.7), ("c", 2, 0.5)):
        (tmp_path / name).mkdir()
        tensors = {"weights": torch.tensor([float("nan"), number]), "seconds": seconds}
        checkpoint.save(tmp_path / name / "model-1.pt", tensors)
    assert_same_files(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError, match="model-1"):
        assert_same_files(tmp_path / "a", tmp_path / "c")

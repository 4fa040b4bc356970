"""The three kinds of runs that faults are injected into: small ones, through their commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared.command import command
from synther.diffusion import train_diffuser
from synther.files import checkpoint
from synther.online import online_exp
from synther.runs.loggers import read_metrics
from synther.transitions import Transitions
from tests.data import random_transitions

# Pendulum needs no simulator beyond gymnasium.
ENV = "Pendulum-v1"
DIFFUSION_GIN = (
    "ResidualMLPDenoiser.mlp_width=16", "ResidualMLPDenoiser.num_layers=1",
    "ResidualMLPDenoiser.dim_t=8", "SimpleDiffusionGenerator.num_sample_steps=4",
    "SimpleDiffusionGenerator.sample_batch_size=10",
    "Trainer.small_batch_size=32", "Trainer.log_every=10", "Trainer.train_num_steps=60",
    "Trainer.save_and_sample_every=20", "Trainer.resume_every=1e9",
)  # fmt: skip
ONLINE_GIN = (
    "redq_sac.epochs = 4", "redq_sac.steps_per_epoch = 20", "redq_sac.start_steps = 10",
    "redq_sac.n_evals_per_epoch = 1", "redq_sac.max_ep_len = 15",
    "redq_sac.retrain_diffusion_every = 30", "redq_sac.num_samples = 30",
    "redq_sac.print_buffer_stats = False", "REDQTrainer.train_num_steps = 40",
    "SimpleDiffusionGenerator.num_sample_steps = 3", "redq_sac.checkpoint_every = 1e9",
    "REDQTrainer.resume_every = 1e9",
)  # fmt: skip
LEFT_OUT = (
    "time", "Time", "StepsPerSecond", "steps_per_second", "updates_per_second", "train_seconds",
    "sample_seconds", "seconds", "checkpoints_path", "resume",
)  # fmt: skip
"""Times, and where and how a run was started."""


@dataclass(frozen=True)
class Kind:
    """One of the commands.

    Args:
        start: runs the command on these words.
        words: for a data file and a results folder; without ``--resume``.
        folder: of the run inside the results folder.
        files: pattern of its checkpoints.
    """

    start: Callable[[Sequence[str]], None]
    words: Callable[[Path, Path], list[str]]
    folder: str
    files: str


def _diffusion(data: Path, results: Path) -> list[str]:
    return [
        *("--dataset", str(data), "--results_folder", str(results / "run"), "--device", "cpu"),
        *("--threads", "1", "--save_num_samples", "123", "--save_file_name", "samples.npz"),
        *("--gin_params", *DIFFUSION_GIN),
    ]


def _offline(data: Path, results: Path) -> list[str]:
    return [
        *("--env", str(data), "--checkpoints_path", str(results), "--device", "cpu"),
        *("--name", "small", "--max_timesteps", "40", "--eval_freq", "10", "--log_every", "5"),
        *("--n_episodes", "1", "--batch_size", "8", "--network_width", "8"),
    ]


def _online(data: Path, results: Path) -> list[str]:
    return [
        *("--env", ENV, "--exp_name", "try", "--results_folder", str(results), "--debug"),
        *("--device", "cpu", "--threads", "1"),
        *("--gin_config_files", "config/online/sac_synther_openai.gin"),
        *("--gin_params", *ONLINE_GIN),
    ]


KINDS = {
    "diffusion": Kind(train_diffuser.main, _diffusion, "run", "model-*.pt"),
    "offline": Kind(
        lambda words: command(TD3BCConfig, TD3BC, words),
        _offline,
        "small-data-s0",
        "checkpoint-*.pt",
    ),
    "online": Kind(online_exp.main, _online, f"try_{ENV}/try_{ENV}_s0", "checkpoint-*.pt"),
}


def write_data(path: Path, rows: int = 200) -> Path:
    """Random transitions of Pendulum's widths."""
    transitions = random_transitions(rows, observation_dim=3, action_dim=1)
    return Transitions.from_arrays(transitions.arrays(), metadata={"env_id": ENV}).save(path)


def outcome(folder: Path) -> dict[str, Any]:
    """All that a finished run left, by file: tensors, samples, records, results."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".pt":
            found[path.name] = _without_times(checkpoint.load(path))
        elif path.suffix == ".npz":
            found[path.name] = {k: v.tobytes() for k, v in Transitions.load(path).arrays().items()}
        elif path.suffix == ".npy":
            found[path.name] = path.read_bytes()
        elif path.suffix == ".jsonl":
            found[path.name] = [_without_times(record) for record in read_metrics(path)]
        elif path.suffix == ".json":
            found[path.name] = _without_times(json.loads(path.read_text()))
    return found


def _without_times(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_times(value) for key, value in tree.items() if key not in LEFT_OUT}
    return tree


def difference(one: Any, other: Any, where: str = "") -> str | None:
    """Where two outcomes differ, tensors compared bit for bit; None if they do not."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype
        return None if same and torch.equal(one, other) else where
    if isinstance(one, dict):
        if not isinstance(other, dict) or one.keys() != other.keys():
            return f"{where}: {sorted(map(str, one))} and {sorted(map(str, other))}"
        parts = [difference(one[key], other[key], f"{where}/{key}") for key in one]
        return next(filter(None, parts), None)
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return f"{where}: lengths {len(one)} and {len(other)}"
        pairs = zip(one, other, strict=True)
        parts = [difference(a, b, f"{where}/{i}") for i, (a, b) in enumerate(pairs)]
        return next(filter(None, parts), None)
    return None if one == other else f"{where}: {one!r} and {other!r}"

"""Small data sets of random pictures, and configurations that train in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther.datasets.vd4rl import PixelEpisodes, read_vd4rl, write_vd4rl
from synther.datasets.vd4rl_files import FIRST, LAST, MID
from synther.learning.learner import Agent, Metrics
from synther.pixels.config import PixelConfig
from synther.pixels.image_agent import DrQBC
from tests.devices import DEVICE

SIZE = 24


def columns(
    lengths: tuple[int, ...] = (9, 2, 7), *, size: int = SIZE, actions: int = 2, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """V-D4RL's arrays; the second episode ends in a true end, the others in a time-out."""
    rng, rows = np.random.default_rng(seed), sum(lengths)
    step_type, discount = np.full(rows, MID), np.ones(rows, np.float32)
    stops = np.cumsum(lengths)
    step_type[stops - np.array(lengths)] = FIRST
    step_type[stops - 1] = LAST
    discount[stops[-1] - 1] = 0
    return {
        "observation": rng.integers(0, 256, (rows, 3, size, size), dtype=np.uint8),
        "action": rng.uniform(-1, 1, (rows, actions)).astype(np.float32),
        "reward": rng.random(rows).astype(np.float32),
        "discount": discount,
        "step_type": step_type,
    }


def data_set(root: Path, arrays: dict[str, NDArray[Any]] | None = None, task: str = "a_b") -> Path:
    """A root as V-D4RL has it, with one file."""
    path = root / "main" / task / "mixed" / f"{SIZE}px" / "episodes-0.hdf5"
    return write_vd4rl(path, arrays or columns((40, 30)), {"env_id": "cartpole-swingup-v0"})


def episodes(tmp_path: Path, arrays: dict[str, NDArray[Any]]) -> PixelEpisodes:
    return read_vd4rl([write_vd4rl(tmp_path / "episodes.hdf5", arrays, {})])


def config(**given: Any) -> PixelConfig:
    defaults: dict[str, Any] = {
        "task": "a_b", "level": "mixed", "image_size": SIZE, "channels": 4, "latent_dim": 3,
        "hidden_width": 16, "batch_size": 6, "device": str(DEVICE), "max_timesteps": 12,
        "log_every": 2, "checkpoint_every": 4, "eval_freq": 6, "n_episodes": 2,
    }  # fmt: skip
    return PixelConfig(**{**defaults, **given})


def agent(**given: Any) -> DrQBC:
    settings = config(**given)
    return DrQBC(settings, 2, torch.Generator().manual_seed(3), DEVICE)


def update_at(learner: Agent, step: int, batch: Any, noise: tuple[torch.Tensor, ...]) -> Metrics:
    """The update that the training loop makes at that step."""
    learner.schedule(step)
    return learner.update(batch, noise, learner.variant(step))

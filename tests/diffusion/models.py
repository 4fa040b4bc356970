"""Small models that the diffusion tests share."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synther.diffusion.denoiser_network import ResidualMLPDenoiser
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.norm import BaseNormalizer
from synther.diffusion.samplers import SAMPLERS
from synther.diffusion.training.trainer import Trainer
from synther.diffusion.utils import construct_diffusion_model
from synther.transitions import TransitionLayout
from tests.devices import DEVICE

LAYOUT = TransitionLayout(3, 2)
TINY = partial(ResidualMLPDenoiser, mlp_width=16, dim_t=8, num_layers=2)


def random_rows(rows: int = 200, layout: TransitionLayout = LAYOUT, seed: int = 0) -> np.ndarray:
    """Rows of random numbers with scales that differ; the terminal column is 0 or 1."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(rows, layout.row_dim)) * rng.uniform(0.1, 5, layout.row_dim) + 1
    if layout.terminals:
        table[:, -1] = rng.random(rows) < 0.1
    return table.astype(np.float32)


def tiny_model(normalizer_type: str = "standard", seed: int = 0) -> ElucidatedDiffusion:
    torch.manual_seed(seed)
    return construct_diffusion_model(
        random_rows(), normalizer_type, TINY, disable_terminal_norm=True, layout=LAYOUT
    )


def tiny_trainer(folder: Path | None, steps: int = 60, **options: Any) -> Trainer:
    settings = {"train_num_steps": steps, "small_batch_size": 32, "seed": 3, "log_every": 10}
    settings.update(device=str(DEVICE), layout=LAYOUT, save_and_sample_every=None)
    model = options.pop("model", None) or tiny_model()
    rows = options.pop("dataset", None)
    rows = random_rows() if rows is None else rows
    return Trainer(model, rows, results_folder=folder, **{**settings, **options})


class GaussianNetwork(nn.Module):
    """F of the exact denoiser of ``N(mean, scale^2)`` a column, ``sigma_data`` 1."""

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Tensor | None = None) -> Tensor:
        sigma = (4 * c_noise)[:, None].exp()
        x = x * (sigma**2 + 1).sqrt()
        gain = self.scale**2 / (self.scale**2 + sigma**2)
        denoised = self.mean + gain * (x - self.mean)
        return (denoised - x / (sigma**2 + 1)) * (sigma**2 + 1).sqrt() / sigma


def gaussian_model(normalizer: BaseNormalizer, **options: Any) -> Any:
    """An exact model of independent columns: mean -0.3, 0.2, ... and scale 0.5, 0.8, ..."""
    dim = normalizer.dim
    mean = torch.linspace(-0.3, 0.2, dim)
    scale = torch.linspace(0.5, 0.8, dim)
    return ElucidatedDiffusion(GaussianNetwork(mean, scale), normalizer, (dim,), **options)


def spread_of_samples(sampler: str, sigmas: Tensor, scale: float, **params: Any) -> float:
    """Standard deviation of a sampler's output over the data's, for the exact denoiser of ``N(0,
    scale^2)`` in closed form.

    A sample is then linear in the start and in each step's noise: row k takes unit noise number k
    alone, and the variances of the independent responses add up.
    """
    unit = torch.eye(2 * len(sigmas) + 40, dtype=torch.float64)
    found = SAMPLERS[sampler](
        lambda x, sigma: scale**2 / (scale**2 + sigma**2) * x,
        unit[:, :1] * float(sigmas[0]),
        sigmas,
        noise=lambda step: unit[:, step + 1, None],
        **params,
    )
    return float(found.square().sum().sqrt()) / scale


def normal_log_density(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    squares = ((x - mean) / scale) ** 2
    return -(squares / 2 + np.log(scale) + math.log(2 * math.pi) / 2).sum(axis=1)

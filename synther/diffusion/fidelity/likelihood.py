"""The likelihood of held-out rows measures a diffusion model without sampling from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.likelihood import log_likelihood


@dataclass(frozen=True)
class HeldOutLikelihood:
    """Log-likelihood of rows that the model was not trained on, in nats a row.

    Args:
        mean: the mean over the rows.
        standard_error: the standard error of that mean, from the rows and the estimate of each.
        rows: how many rows there are.
    """

    mean: float
    standard_error: float
    rows: int


def held_out_log_likelihood(
    model: ElucidatedDiffusion,
    rows: ArrayLike | Tensor,
    *,
    max_rows: int = 1000,
    batch_size: int = 500,
    seed: int = 0,
    **options: Any,
) -> HeldOutLikelihood:
    """Measure how likely held-out rows are under the model, whatever sampler it is used with.

    Only numbers of the same data compare. A column that takes few values, such as a terminal flag,
    has a density without bound, of which the model shows what sigma_min resolves.

    Args:
        model: the model, in evaluation mode.
        rows: the rows ``[N, D]`` in data space.
        max_rows: the number of rows to look at, drawn without replacement where there are more.
        batch_size: the rows of one run of the ODE, which bounds the memory.
        seed: the seed of the draw, and of the estimate's probes.
        options: options of :func:`log_likelihood`.

    Raises:
        ValueError: fewer than two rows, or rows of another width.
    """
    table = torch.as_tensor(rows if isinstance(rows, Tensor) else np.asarray(rows, np.float32))
    (width,) = model.event_shape
    if table.ndim != 2 or table.shape[1] != width or len(table) < 2:
        raise ValueError(f"rows {tuple(table.shape)}, expected two or more of {width} columns")
    chosen = np.random.default_rng(seed).permutation(len(table))[:max_rows]
    table = table[torch.from_numpy(np.sort(chosen))].to(model.device)
    generator = torch.Generator(model.device).manual_seed(seed)
    values = torch.cat(
        [
            log_likelihood(model, batch, generator=generator, **options)
            for batch in table.split(batch_size)
        ]
    ).double()
    return HeldOutLikelihood(
        mean=float(values.mean()),
        standard_error=float(values.std() / math.sqrt(len(values))),
        rows=len(values),
    )

"""Log-likelihood under the diffusion model, by its probability-flow ODE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

if TYPE_CHECKING:
    from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion


def log_likelihood(
    model: ElucidatedDiffusion,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    include_normalizer: bool = True,
    probe: Tensor | None = None,
    generator: torch.Generator | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-4,
) -> Tensor:
    """Log-density ``[B]`` (nats) of rows ``[B, D]`` in data space.

    The rows are carried along the probability-flow ODE from sigma_min to sigma_max, where the
    density is taken as ``N(0, sigma_max^2)``; the change of volume on the way is integrated with
    Hutchinson's estimate of the divergence ``v^T (df/dx) v`` (Song et al. 2021, arXiv 2011.13456,
    appendix D.2; Grathwohl et al. 2019, arXiv 1810.01367). What comes out is the density of data
    blurred by sigma_min in model space.

    Args:
        model: in evaluation mode.
        x: rows in data space.
        cond: conditions ``[B, C]``.
        include_normalizer: add the normaliser's log-determinant, ``log |det d normalize(x) / dx|``:
            for the standard normaliser ``-sum log(std + 1e-5)``, for min-max
            ``-sum log((max - min) / 2)``. False gives the density of the normalised rows in model
            space.
        probe: v ``[B, D]``, with independent entries of mean 0 and variance 1; +-1 at random where
            None.
        generator: where the probe is drawn from.
        rtol, atol: tolerances of the solver, dopri5.
    """
    from torchdiffeq import odeint

    rows = model.normalizer.normalize(x)
    if probe is None:
        coin = torch.randint(2, rows.shape, generator=generator, device=rows.device)
        probe = coin.to(rows.dtype) * 2 - 1

    def slope(log_sigma: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        # In ln(sigma) the slope dx/dln(sigma) = x - D(x; sigma) stays moderate all the way.
        with torch.enable_grad():
            y = state[0].detach().requires_grad_()
            sigma = log_sigma.exp().to(y.dtype).expand(1)
            flow = y - model.preconditioned_network_forward(y, sigma, cond=cond)
            (pulled_back,) = torch.autograd.grad((flow * probe).sum(), y)
        divergence = (pulled_back * probe).flatten(1).sum(dim=1)
        return flow.detach(), divergence

    levels = torch.tensor([model.sigma_min, model.sigma_max], device=rows.device).log()
    with torch.no_grad():
        start = (rows, rows.new_zeros(len(rows)))
        path, volume = odeint(slope, start, levels, rtol=rtol, atol=atol, method="dopri5")
        ends = path[-1].flatten(1)
        squares = (ends / model.sigma_max).square().sum(dim=1)
        constant = ends.shape[1] * (math.log(2 * math.pi) / 2 + math.log(model.sigma_max))
        total = volume[-1] - squares / 2 - constant
        return total + model.normalizer.log_determinant() if include_normalizer else total


@dataclass(frozen=True)
class HeldOutLikelihood:
    """Log-likelihood of rows that the model was not trained on, in nats a row.

    Args:
        mean: over the rows.
        standard_error: of the mean, over the rows and the estimate of each.
        rows: how many.
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
    """How likely held-out rows are under the model: a measure of the model, not of its sampler.

    Only numbers of the same data compare. A column that takes few values, such as a terminal flag,
    has a density without bound, of which the model shows what sigma_min resolves.

    Args:
        model: in evaluation mode.
        rows: ``[N, D]`` in data space.
        max_rows: more rows are not looked at: these are drawn, without replacement.
        batch_size: rows of one run of the ODE, which bounds the memory.
        seed: of the draw, and of the estimate's probes.
        options: of :func:`log_likelihood`.

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

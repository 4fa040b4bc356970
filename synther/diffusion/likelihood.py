"""The probability-flow ODE gives the log-likelihood of rows under a diffusion model."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from einops import reduce
from torch import Tensor


class SpaceMap(Protocol):
    """A map of rows from data space to model space; see :mod:`synther.diffusion.norm`."""

    def normalize(self, x: Tensor) -> Tensor: ...

    def log_determinant(self, x: Tensor) -> Tensor: ...


class Denoiser(Protocol):
    """A diffusion model as the ODE sees it: ``D(x; sigma)`` between two noise levels, and the map
    between data and model space."""

    @property
    def sigma_min(self) -> float: ...

    @property
    def sigma_max(self) -> float: ...

    @property
    def normalizer(self) -> SpaceMap: ...

    def preconditioned_network_forward(
        self, noised_inputs: Tensor, sigma: Tensor, *, cond: Tensor | None
    ) -> Tensor: ...


def log_likelihood(
    model: Denoiser,
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
        model: the model, in evaluation mode.
        x: the rows in data space.
        cond: conditions ``[B, C]``.
        include_normalizer: add the normaliser's log-determinant, ``log |det d normalize(x) / dx|``:
            for the standard normaliser ``-sum log(std + 1e-5)``, for min-max
            ``-sum log((max - min) / 2)``, for ``transitions`` another number for each row. False
            gives the density of the normalised rows in model space.
        probe: v ``[B, D]``, with independent entries of mean 0 and variance 1; +-1 at random where
            None.
        generator: the source of the probe.
        rtol, atol: the tolerances of the solver, dopri5.
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
        divergence = reduce(pulled_back * probe, "b ... -> b", "sum")
        return flow.detach(), divergence

    levels = torch.tensor([model.sigma_min, model.sigma_max], device=rows.device).log()
    with torch.no_grad():
        start = (rows, rows.new_zeros(len(rows)))
        path, volume = odeint(slope, start, levels, rtol=rtol, atol=atol, method="dopri5")
        squares = reduce((path[-1] / model.sigma_max).square(), "b ... -> b", "sum")
        constant = math.prod(rows.shape[1:]) * (
            math.log(2 * math.pi) / 2 + math.log(model.sigma_max)
        )
        total = volume[-1] - squares / 2 - constant
        return total + model.normalizer.log_determinant(x) if include_normalizer else total

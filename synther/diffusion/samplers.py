"""Samplers: pure functions from noise to data, in a registry by name.

A sampler only ever sees the denoiser ``D(x; sigma)``, the noise levels and where its noise comes
from. A new one is one function here. References: Karras et al. 2022, "Elucidating the Design Space
of Diffusion-Based Generative Models" (EDM), arXiv 2206.00364.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
"""``D(x [B, D], sigma) -> [B, D]``: the expected clean row."""

Noise = Callable[[int], Tensor]
"""``noise(i) -> [B, D]``: unit Gaussian noise for step i."""


class Sampler(Protocol):
    """``x [B, D]`` at noise level ``sigmas[0]`` -> ``[B, D]`` at ``sigmas[-1]``.

    ``sigmas`` is ``[N + 1]``, falling, float64 on the CPU; its last entry is 0. ``params`` that a
    sampler has no use for are ignored, so that all of them can be called alike.
    """

    def __call__(
        self, denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise, **params: Any
    ) -> Tensor: ...


def karras_schedule(
    num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """Noise levels ``[num_steps + 1]`` from sigma_max down to sigma_min, then 0 (EDM, equation 5).

    Float64 on the CPU: the arithmetic of a schedule costs nothing and its errors add up.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, expected 1 or more")
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, ramp.new_zeros(1)])


def heun_stochastic(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise,
    S_churn: float = 80.0,
    S_tmin: float = 0.05,
    S_tmax: float = 50.0,
    S_noise: float = 1.003,
    **_: Any,
) -> Tensor:
    """EDM, Algorithm 2: second order, with fresh noise at each step. 2 N - 1 network calls."""
    levels = sigmas.tolist()
    largest_gamma = min(S_churn / (len(levels) - 1), math.sqrt(2) - 1)
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
        # Raise the noise level from sigma to sigma_hat.
        gamma = largest_gamma if S_tmin <= sigma <= S_tmax else 0.0
        sigma_hat = sigma * (1 + gamma)
        if gamma > 0:
            x = x + noise(i) * (S_noise * math.sqrt(sigma_hat**2 - sigma**2))
        # Euler step from the noised point.
        slope = (x - denoise(x, sigma_hat)) / sigma_hat
        x_next = x + slope * (sigma_next - sigma_hat)
        # Second-order correction.
        if sigma_next > 0:
            slope_next = (x_next - denoise(x_next, sigma_next)) / sigma_next
            x_next = x + (slope + slope_next) * ((sigma_next - sigma_hat) / 2)
        x = x_next
    return x


def heun_deterministic(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise, **_: Any
) -> Tensor:
    """EDM, Algorithm 1: Heun's method on the probability-flow ODE. 2 N - 1 network calls."""
    return heun_stochastic(denoise, x, sigmas, noise=noise, S_churn=0.0)


SAMPLERS: dict[str, Sampler] = {
    "heun_stochastic": heun_stochastic,
    "heun_deterministic": heun_deterministic,
}

"""Samplers: pure functions from noise to data, in a registry by name.

A sampler only ever sees the denoiser ``D(x; sigma)``, the noise levels and where its noise comes
from. A new one is one function here. References: Karras et al. 2022, "Elucidating the Design Space
of Diffusion-Based Generative Models" (EDM), arXiv 2206.00364; Lu et al. 2022, "DPM-Solver++", arXiv
2211.01095; Xu et al. 2023, "Restart Sampling", arXiv 2306.14878.

The multistep samplers solve the probability-flow ODE in ``lambda = -ln sigma``, where it is ``dx /
dlambda = D(x; sigma) - x``: the part in x is solved exactly, D is continued from its last values.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

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


SAMPLERS: dict[str, Sampler] = {}
"""Samplers by name."""

SamplerT = TypeVar("SamplerT", bound=Sampler)


def register_sampler(sampler: SamplerT) -> SamplerT:
    """Function decorator: models, presets and commands may name this sampler."""
    SAMPLERS[sampler.__name__] = sampler  # type: ignore[attr-defined]
    return sampler


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


@register_sampler
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


@register_sampler
def heun_deterministic(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise, **_: Any
) -> Tensor:
    """EDM, Algorithm 1: Heun's method on the probability-flow ODE. 2 N - 1 network calls."""
    return heun_stochastic(denoise, x, sigmas, noise=noise, S_churn=0.0)


@register_sampler
def dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise,
    eta: float = 1.0,
    S_noise: float = 1.003,
    **_: Any,
) -> Tensor:
    """SDE-DPM-Solver++(2M) of Lu et al.: D is continued to second order, with fresh noise at each
    step. N network calls.

    It solves ``dx = (1 + eta) (D - x) dlambda + sqrt(2 eta) sigma dw``, whose marginals are the
    same for every eta; with 0 it is the ODE's DPM-Solver++(2M).
    """
    denoised_before, step_before = x, 0.0
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            return denoised  # the limit of an infinite step
        step = math.log(sigma / sigma_next)
        target = denoised
        if i > 0:
            target = denoised + (denoised - denoised_before) * (step / (2 * step_before))
        kept = math.exp(-(1 + eta) * step)
        x = x * kept + target * (1 - kept)
        if eta > 0:
            x = x + noise(i) * (S_noise * sigma_next * math.sqrt(-math.expm1(-2 * eta * step)))
        denoised_before, step_before = denoised, step
    return x


@register_sampler
def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise, **_: Any) -> Tensor:
    """DPM-Solver++(2M) (Lu et al., algorithm 2) on the ODE: second order, N network calls."""
    return dpmpp_2m_sde(denoise, x, sigmas, noise=noise, eta=0.0)


@register_sampler
def dpmpp_3m(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise, **_: Any) -> Tensor:
    """The third-order multistep of the ODE: D is the parabola through its last three values, whose
    product with the exponential is integrated exactly. N network calls.

    The first two steps have only one and two values to go by. At the start's noise D hardly depends
    on the level, so their lower order does not show.
    """
    steps: list[float] = []  # of lambda, newest first
    values: list[Tensor] = []  # of D, newest first
    for sigma, sigma_next in itertools.pairwise(sigmas.tolist()):
        values = [denoise(x, sigma), *values[:2]]
        if sigma_next == 0:
            return values[0]
        step = math.log(sigma / sigma_next)
        # Integrals of exp(s - step) s^k over the step, k = 0, 1, 2.
        constant = -math.expm1(-step)
        linear = step - constant
        quadratic = step**2 - 2 * linear
        x = x * (1 - constant) + values[0] * constant
        if len(values) > 1:  # Newton's divided differences
            slope = (values[0] - values[1]) / steps[0]
            x = x + slope * linear
        if len(values) > 2:
            bend = (slope - (values[1] - values[2]) / steps[1]) / (steps[0] + steps[1])
            x = x + bend * (quadratic + steps[0] * linear)
        steps = [step, *steps[:1]]
    return x


@register_sampler
def restart(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise,
    restart_low: float = 0.1,
    restart_high: float = 0.5,
    restart_count: int = 4,
    restart_steps: int = 3,
    S_noise: float = 1.003,
    **_: Any,
) -> Tensor:
    """Restart (Xu et al.) with DPM-Solver++(2M) as its ODE solver.

    The ODE is followed down to the level of ``sigmas`` that is nearest to ``restart_low``;
    ``restart_count`` times, noise takes the rows up to ``restart_high`` and ``restart_steps`` steps
    of the ODE bring them down again; then the rest of ``sigmas``. What earlier steps got wrong is
    forgotten by the noise. N + restart_count restart_steps network calls.
    """
    positive = sigmas[sigmas > 0]
    turn = int((positive.log() - math.log(restart_low)).abs().argmin())
    low = float(sigmas[turn])
    if low >= restart_high:
        raise ValueError(
            f"restart_high is {restart_high}, expected more than the level {low:.4g}, which "
            f"is the schedule's nearest to restart_low {restart_low}"
        )
    down = karras_schedule(restart_steps + 1, low, restart_high)[:-1]
    spread = math.sqrt(restart_high**2 - low**2)
    x = dpmpp_2m(denoise, x, sigmas[: turn + 1], noise=noise)
    for i in range(restart_count):
        x = x + noise(i) * (S_noise * spread)
        x = dpmpp_2m(denoise, x, down, noise=noise)
    return dpmpp_2m(denoise, x, sigmas[turn:], noise=noise)


def check_sampler(name: str, params: Mapping[str, Any] | None = None) -> None:
    """Raise ValueError for a name that is not in ``SAMPLERS``, or a parameter that the sampler of
    that name does not have."""
    if name not in SAMPLERS:
        raise ValueError(f"sampler '{name}': expected one of {', '.join(SAMPLERS)}")
    arguments = inspect.signature(SAMPLERS[name]).parameters.values()
    known = [each.name for each in arguments if each.default is not inspect.Parameter.empty]
    for given in params or ():
        if given not in known:
            has = f"its parameters are {', '.join(known)}" if known else "it has no parameters"
            raise ValueError(f"sampler '{name}' has no parameter '{given}': {has}")


def count_calls(sampler: Sampler, sigmas: Tensor, **params: Any) -> int:
    """Network calls of a row: how often the sampler asks for D on this schedule."""
    levels: list[float] = []

    def recording(x: Tensor, sigma: float) -> Tensor:
        levels.append(sigma)
        return x

    nothing = torch.zeros(1, 1, dtype=torch.float64)
    sampler(recording, nothing, sigmas, noise=lambda _: nothing, **params)
    return len(levels)

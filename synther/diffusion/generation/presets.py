"""Samples are drawn in named ways: ``paper``, ``fast``, or any sampler with a model's settings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.samplers import SAMPLERS, check_sampler, count_calls, karras_schedule
from synther.runs.precision import multiplies_bf16_fast, settled
from synther.runs.runtime import Precision


@dataclass(frozen=True)
class Preset:
    """Everything that samples depend on beside the weights and the noise.

    Args:
        sampler: the name of one of ``SAMPLERS``.
        num_sample_steps: N, the number of the schedule's steps.
        sigma_min, sigma_max, rho: the schedule (EDM, equation 5).
        params: further parameters of the sampler.
        precision: the precision of the network's products.
    """

    sampler: str
    num_sample_steps: int
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    params: Mapping[str, float] = field(default_factory=dict)
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        check_sampler(self.sampler, self.params)

    @property
    def network_calls(self) -> int:
        """The number of network calls that a row costs."""
        return _calls(self, self.num_sample_steps, self.params)

    def applied_to(self, model: ElucidatedDiffusion) -> ElucidatedDiffusion:
        """A copy of the model that samples this way; the precision is left to the generator."""
        twin = copy.deepcopy(model)
        twin.sampler, twin.sampler_params = self.sampler, dict(self.params)
        twin.num_sample_steps = self.num_sample_steps
        twin.sigma_min, twin.sigma_max, twin.rho = self.sigma_min, self.sigma_max, self.rho
        return twin


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        "heun_stochastic",
        128,
        params={"S_churn": 80.0, "S_tmin": 0.05, "S_tmax": 50.0, "S_noise": 1.003},
    ),
    "fast": Preset(
        "restart",
        20,
        sigma_min=0.005,
        params={
            "restart_low": 0.2,
            "restart_high": 0.7,
            "restart_count": 1,
            "restart_steps": 4,
            "S_noise": 1.0,
        },
        precision="bf16",
    ),
}
"""``paper``: of SynthER (arXiv 2303.06614), 255 network calls. ``fast``: 20 steps of the ODE down
to 0.005, one restart on the way, of 4 steps, that takes level 0.2 up to 0.7; 24 network calls.

With an exact denoiser of ``N(0, s^2)`` the standard deviation of samples of ``fast`` over s is
1.01, 0.98, 1.00, 1.01 for s = 1, 0.3, 0.1, 0.05, that of ``paper`` 1.01, 1.01, 1.02, 1.02. The
preset of that name that ended at level 0.1, with 19 calls, gave 0.97, 0.88, 0.67, 0.44: it lost
noise that the data have. Quality beside the paper's: ``benchmarks/results/sampler_study.md``."""

SAMPLER_NAMES = (*PRESETS, *SAMPLERS)
"""The names that ``--sampler`` takes."""


def preset_of(name: str, model: ElucidatedDiffusion, num_sample_steps: int) -> Preset:
    """The preset of that name; for the name of a sampler, that sampler with the given steps and the
    model's schedule.

    Raises:
        ValueError: a name that is neither.
    """
    if name in PRESETS:
        return PRESETS[name]
    if name not in SAMPLERS:
        raise ValueError(f"sampler '{name}': expected one of {', '.join(SAMPLER_NAMES)}")
    own = model.sampler_params if name == model.sampler else {}
    return Preset(name, num_sample_steps, model.sigma_min, model.sigma_max, model.rho, params=own)


def prepared(
    model: ElucidatedDiffusion,
    sampler: str | None,
    num_sample_steps: int,
    precision: Precision | None,
) -> tuple[ElucidatedDiffusion, int, Precision]:
    """The model as it samples, its number of steps, and the precision of its products.

    Args:
        model: it is left as it is.
        sampler: the name of a preset or a sampler; None leaves the model's own.
        num_sample_steps: the number of steps, where no preset has its own.
        precision: None takes what the preset says, where the device multiplies bfloat16 fast. A
            network of one's own without ``products_in`` takes fp32 there, and with ``auto``.

    Raises:
        ValueError: no such sampler, or bf16 of a network without ``products_in``.
    """
    chosen: Precision = "fp32"
    if sampler is not None:
        preset = preset_of(sampler, model, num_sample_steps)
        fast = preset.precision == "bf16" and multiplies_bf16_fast(model.device)
        chosen = "bf16" if fast and _turns_to_bf16(model) else "fp32"
        model, num_sample_steps = preset.applied_to(model), preset.num_sample_steps
    if precision is not None and (precision != "auto" or _turns_to_bf16(model)):
        chosen = settled(precision, model.device)
    if chosen == "bf16":
        if not _turns_to_bf16(model):
            raise ValueError(
                f"precision bf16: {type(model.net).__name__} has no products_in(dtype), which "
                "turns its large layers to bfloat16; give it one, or use fp32"
            )
        model = copy.deepcopy(model)
        model.net.products_in(torch.bfloat16)  # type: ignore[operator]
    return model, num_sample_steps, chosen


def _turns_to_bf16(model: ElucidatedDiffusion) -> bool:
    return hasattr(model.net, "products_in")


def sampling_settings(model: ElucidatedDiffusion) -> dict[str, Any]:
    """The settings that a model's samples depend on beside its weights and the number of steps, as
    plain values."""
    schedule = {name: getattr(model, name) for name in ("sigma_min", "sigma_max", "rho")}
    return {"sampler": model.sampler, **schedule, **model.sampler_arguments}


def network_calls(model: ElucidatedDiffusion, num_sample_steps: int) -> int:
    """The number of network calls that a row of the model costs, with its own sampler."""
    return _calls(model, num_sample_steps, model.sampler_arguments)


def _calls(
    schedule: Preset | ElucidatedDiffusion, num_sample_steps: int, params: Mapping[str, float]
) -> int:
    sigmas = karras_schedule(num_sample_steps, schedule.sigma_min, schedule.sigma_max, schedule.rho)
    return count_calls(SAMPLERS[schedule.sampler], sigmas, **params)

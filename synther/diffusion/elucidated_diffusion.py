"""This is the diffusion model of Karras et al. 2022 ("EDM", arXiv 2206.00364) on rows."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import torch
from einops import reduce
from torch import Tensor, nn

from synther.diffusion.conditioning.around import Around, rest_of, sampler_from
from synther.diffusion.conditioning.condition import Condition
from synther.diffusion.conditioning.guidance import Guided
from synther.diffusion.conditioning.policy import PolicyGuidance
from synther.diffusion.norm import BaseNormalizer
from synther.diffusion.samplers import SAMPLERS, Noise, check_sampler, karras_schedule
from synther.ranges import Count, Finite, NotNegative, Positive, Width, checked
from synther.transitions import TransitionLayout


@gin.configurable
class ElucidatedDiffusion(nn.Module):
    """A denoiser with EDM's preconditioning, loss, schedule and samplers.

    Rows go in and samples come out in data space; the normaliser is part of the model.

    Args:
        net: the network ``F(x [B, D], c_noise [B] or [1], cond) -> [B, D]``.
        normalizer: the map between data and model space, fitted to the data.
        event_shape: the shape of one row, ``(D,)``.
        num_sample_steps: N, the number of sampler steps where a call does not say.
        sigma_min, sigma_max, rho: the schedule (EDM, equation 5).
        sigma_data: the data's standard deviation in model space.
        P_mean, P_std: mean and standard deviation of ln sigma in training (EDM, table 1).
        S_churn, S_tmin, S_tmax, S_noise: the stochastic sampler (EDM, algorithm 2).
        sampler: the name of a sampler in ``synther.diffusion.samplers.SAMPLERS``.
        sampler_params: further parameters of that sampler, such as ``{"restart_count": 2}``.
        layout: which columns of a row hold what; None where nobody has said.
        condition: what rows can be asked for by; None where they cannot.
    """

    @checked
    def __init__(
        self,
        net: nn.Module,
        normalizer: BaseNormalizer,
        event_shape: Sequence[Width],
        num_sample_steps: Count = 128,
        sigma_min: Positive = 0.002,
        sigma_max: Positive = 80.0,
        sigma_data: Positive = 1.0,
        rho: Positive = 7.0,
        P_mean: Finite = -1.2,
        P_std: NotNegative = 1.2,
        S_churn: NotNegative = 80.0,
        S_tmin: NotNegative = 0.05,
        S_tmax: NotNegative = 50.0,
        S_noise: NotNegative = 1.003,
        sampler: str = "heun_stochastic",
        sampler_params: Mapping[str, NotNegative] | None = None,
        layout: TransitionLayout | None = None,
        condition: Condition | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.normalizer = normalizer
        self.event_shape = tuple(int(size) for size in event_shape)
        self.num_sample_steps = num_sample_steps
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho
        self.sigma_data = sigma_data
        self.P_mean, self.P_std = P_mean, P_std
        self.S_churn, self.S_tmin, self.S_tmax, self.S_noise = S_churn, S_tmin, S_tmax, S_noise
        check_sampler(sampler, sampler_params)
        self.sampler, self.sampler_params = sampler, dict(sampler_params or {})
        self.layout = layout
        self.condition = condition
        self.trained_on: Any = None
        """The :class:`~synther.diffusion.provenance.Provenance` of its data; None where unknown."""

    @property
    def layout(self) -> TransitionLayout | None:
        """Which columns of a row hold what, so that nobody has to guess it from their number; None
        where nobody has said."""
        return self._layout

    @layout.setter
    def layout(self, layout: TransitionLayout | None) -> None:
        if layout is not None and (layout.row_dim,) != self.event_shape:
            raise ValueError(
                f"the model's rows have {self.event_shape[0]} columns, {layout} has "
                f"{layout.row_dim}"
            )
        self._layout = layout

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    # Preconditioning (EDM, table 1); sigma is a number or a tensor that broadcasts.

    def c_skip(self, sigma: Any) -> Any:
        return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)

    def c_out(self, sigma: Any) -> Any:
        return sigma * self.sigma_data * (sigma**2 + self.sigma_data**2) ** -0.5

    def c_in(self, sigma: Any) -> Any:
        return (sigma**2 + self.sigma_data**2) ** -0.5

    def c_noise(self, sigma: Tensor) -> Tensor:
        return sigma.log() / 4

    def preconditioned_network_forward(
        self,
        noised_inputs: Tensor,
        sigma: float | Tensor,
        clamp: bool = False,
        cond: Tensor | None = None,
    ) -> Tensor:
        """``D(x; sigma)`` (EDM, equation 7) in model space.

        Args:
            noised_inputs: ``x [B, D]``.
            sigma: a number for all rows, or ``[B]``. A number costs one noise embedding, not B.
            clamp: keep the result to model space's range, where the normaliser has one.
            cond: ``[B, C]``; None of a model with a :attr:`condition`: rows as they come.
        """
        if cond is None and self.condition is not None:
            cond = self.condition.nothing(noised_inputs)
        if isinstance(sigma, Tensor) and sigma.ndim > 0:
            column: Any = sigma.reshape(-1, *(1,) * len(self.event_shape))
            noise_level = self.c_noise(sigma)
        else:
            column = float(sigma)
            noise_level = noised_inputs.new_full((1,), math.log(column) / 4)
        output = self.net(self.c_in(column) * noised_inputs, noise_level, cond)
        # The sum is taken in the rows' own precision, also where the network's products are bf16.
        denoised = self.c_skip(column) * noised_inputs
        denoised = denoised + self.c_out(column) * output.to(noised_inputs.dtype)
        return self.normalizer.clamp(denoised) if clamp else denoised

    def score_fn(
        self,
        x: Tensor,
        sigma: float | Tensor,
        clamp: bool = False,
        cond: Tensor | None = None,
    ) -> Tensor:
        """The slope of the probability-flow ODE, ``dx/dsigma = (x - D(x; sigma)) / sigma``: minus
        sigma times the score; ``[B, D]`` in model space."""
        denoised = self.preconditioned_network_forward(x, sigma, clamp, cond)
        if isinstance(sigma, Tensor) and sigma.ndim > 0:
            sigma = sigma.reshape(-1, *(1,) * len(self.event_shape))
        return (x - denoised) / sigma

    # Training.

    def noise_distribution(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Noise levels ``[batch_size]``, ``ln sigma ~ N(P_mean, P_std^2)``."""
        unit = torch.randn(batch_size, device=self.device, generator=generator)
        return (self.P_mean + self.P_std * unit).exp()

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """``lambda(sigma)`` (EDM, table 1), which makes the network's target have unit variance."""
        return (sigma**2 + self.sigma_data**2) * (sigma * self.sigma_data) ** -2

    def forward(
        self,
        inputs: Tensor,
        cond: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        sigma: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The training loss of rows ``[B, D]`` in data space, a scalar (EDM, equation 8).

        Args:
            inputs: the rows.
            cond: conditions ``[B, C]``.
            generator: the source of noise levels and noise, on the model's device.
            sigma, noise: noise levels ``[B]`` and unit noise ``[B, D]`` in place of drawn ones.
        """
        if inputs.shape[1:] != self.event_shape:
            raise ValueError(
                f"rows of shape {tuple(inputs.shape)}, expected [B, {self.event_shape[0]}]"
            )
        rows = self.normalizer.normalize(inputs)
        if sigma is None:
            sigma = self.noise_distribution(len(rows), generator)
        if noise is None:
            noise = torch.randn(rows.shape, device=rows.device, generator=generator)
        noised = rows + sigma.reshape(-1, *(1,) * len(self.event_shape)) * noise
        denoised = self.preconditioned_network_forward(noised, sigma, cond=cond)
        errors = reduce((denoised - rows).square(), "b ... -> b", "mean")
        return (self.loss_weight(sigma) * errors).mean()

    # Sampling.

    def sample_schedule(self, num_sample_steps: int | None = None) -> Tensor:
        """Noise levels ``[N + 1]``, float64 on the CPU, the last one 0."""
        steps = num_sample_steps or self.num_sample_steps
        return karras_schedule(steps, self.sigma_min, self.sigma_max, self.rho)

    @torch.no_grad()
    def sample(
        self,
        batch_size: int = 16,
        num_sample_steps: int | None = None,
        clamp: bool | None = None,
        cond: Tensor | None = None,
        disable_tqdm: bool = True,
        *,
        generator: torch.Generator | None = None,
        noise: Noise | None = None,
        guidance: float = 1.0,
        around: Around | None = None,
        policy: PolicyGuidance | None = None,
    ) -> Tensor:
        """New rows ``[batch_size, D]`` in data space, on the model's device.

        Args:
            batch_size: B, the number of rows.
            num_sample_steps: the number of sampler steps; None takes ``self.num_sample_steps``.
            clamp: keep the denoiser's outputs and the samples to model space's range. None: only
                with a normaliser that has one (min-max).
            cond: conditions ``[B, C]``.
            disable_tqdm: False shows a bar of network calls.
            generator: the source of noise, on the model's device.
            noise: unit noise in place of drawn noise: ``noise(0)`` is the start, ``noise(1 + i)``
                that of step i.
            guidance: how strongly ``cond`` is followed, see :class:`Guided`.
            around: rows ``[batch_size, D]`` to begin at; its target is not looked at.
            policy: moves actions to where it acts.
        """
        from tqdm.auto import tqdm

        shape = (batch_size, *self.event_shape)
        clamp = self.normalizer.clamps if clamp is None else clamp
        draw: Noise = noise or (
            lambda _: torch.randn(shape, device=self.device, generator=generator)
        )
        sigmas, start, sampler = self.sample_schedule(num_sample_steps), None, self.sampler
        arguments = self.sampler_arguments
        if around is not None:
            steps = len(sigmas) - 1
            sigmas = rest_of(sigmas, around.noise)
            # Churn is said for the whole schedule, of which each step has its part.
            arguments["S_churn"] *= (len(sigmas) - 1) / steps
            start = self.normalizer.normalize(around.rows.to(self.device))
            sampler = sampler_from(sampler, float(sigmas[0]), arguments)
        with tqdm(unit="call", disable=disable_tqdm) as bar:

            def conditional(x: Tensor, sigma: float, cond: Tensor | None) -> Tensor:
                bar.update()
                return self.preconditioned_network_forward(x, sigma, clamp, cond)

            def denoise(x: Tensor, sigma: float) -> Tensor:
                if guided is None:
                    return conditional(x, sigma, None)
                denoised = guided(x, sigma)
                return self.normalizer.clamp(denoised) if clamp else denoised

            guided = None if cond is None else Guided(conditional, cond, guidance)
            x = draw(0) * float(sigmas[0])
            x = SAMPLERS[sampler](
                policy.guided(denoise, self.normalizer, self.sigma_data) if policy else denoise,
                x if start is None else start + x,
                sigmas,
                noise=lambda step: draw(1 + step),
                **arguments,
            )
        return self.normalizer.unnormalize(self.normalizer.clamp(x) if clamp else x)

    @property
    def sampler_arguments(self) -> dict[str, float]:
        """The parameters that a sampler takes beside the noise levels."""
        names = ("S_churn", "S_tmin", "S_tmax", "S_noise")
        return {**{name: getattr(self, name) for name in names}, **self.sampler_params}

    def log_likelihood(self, x: Tensor, **options: Any) -> Tensor:
        """Log-density ``[B]`` of rows ``[B, D]``; see :func:`synther.diffusion.likelihood`."""
        from synther.diffusion.likelihood import log_likelihood

        return log_likelihood(self, x, **options)


def __getattr__(name: str) -> Any:
    # Projects import the trainers from here. By name and on demand: the model does not depend on
    # how it is trained, and the trainer imports this module.
    trainer_modules = {
        "Trainer": "synther.diffusion.training.trainer",
        "REDQTrainer": "synther.diffusion.training.redq_trainer",
    }
    if name in trainer_modules:
        return getattr(importlib.import_module(trainer_modules[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

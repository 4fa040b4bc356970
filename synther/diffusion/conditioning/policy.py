"""Actions are moved, as they are denoised, to where a policy acts.

Policy-guided diffusion (PGD, Jackson et al. 2024, arXiv 2404.06356) does so with pieces of
trajectories; here it is done with single transitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from synther.diffusion.conditioning.condition import ConditionError
from synther.diffusion.conditioning.policy_answers import (
    aims_of,
    answer_of,
    require_finite,
    slope_of,
)
from synther.ranges import NotNegative, problem
from synther.transitions import TransitionLayout

STRENGTH = 1.0
"""How strongly, where nothing else is said."""
INSIDE = 0.99
"""The log-likelihood's gradient is taken this far towards the bounds at most: at a bound that of a
squashed Gaussian is infinite, and samples lie there."""

Policy = Callable[[Tensor], Any]
"""Observations ``[N, O]``, float32, in the data's units -> actions ``[N, A]`` in the data's units,
or their distribution: anything with ``log_prob``, such as a ``torch.distributions.Normal``."""

Denoise = Callable[[Tensor, float], Tensor]
"""``D(x [N, D], sigma)``, in model space."""


class Space(Protocol):
    """The map between data and model space, rows ``[N, D]`` either way."""

    def normalize(self, x: Tensor) -> Tensor: ...

    def unnormalize(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class PolicyGuidance:
    """It moves what a denoiser gives along ``grad_a log pi(a|s)``, in its action columns alone.

    Observation and action are those of the denoised row ``D(x; sigma)``, in the data's units, and
    the gradient is by the action in units of half its range. A row's gradient that is longer than 1
    counts as 1 long. Of it the share ``lambda r / (1 + lambda r)`` is added, with
    ``r = sigma^2 / (sigma^2 + sigma_data^2)``: up to ``lambda / (1 + lambda)`` at the beginning,
    and 0 at the end of the schedule. The network is called as often as without.

    The share is the exact one of a Gaussian: where actions are ``N(m, s^2)`` and pi is a constant,
    the samples are those of ``N(m, s^2) exp(-lambda (a - pi)^2 / (2 s^2))``.

    Args:
        policy: pi. Where it gives actions and no distribution, ``log pi`` is ``-(a - pi(s))^2 / 2``
            in units of half the range, whose gradient is ``pi(s) - a``.
        layout: of the model's rows.
        low, high: the bounds of actions, ``[A]``, which say what their range is.
        strength: lambda, 0 or more; 0 leaves the denoiser as it is.
    """

    policy: Policy
    layout: TransitionLayout
    low: Tensor
    high: Tensor
    strength: float = STRENGTH

    def __post_init__(self) -> None:
        if not callable(self.policy):
            raise ConditionError(
                f"policy is {self.policy!r}, expected a function of observations [N, O] that gives "
                "actions [N, A] or their distribution"
            )
        if expected := problem(self.strength, NotNegative):
            raise ConditionError(f"policy strength is {self.strength}, expected {expected}")

    def share(self, sigma: float, sigma_data: float = 1.0) -> float:
        """Of the gradient what is added at a noise level."""
        rise = self.strength * sigma**2 / (sigma**2 + sigma_data**2)
        return 1.0 if math.isinf(rise) else rise / (1 + rise)

    def gradient(self, observations: Tensor, actions: Tensor) -> Tensor:
        """``grad_a log pi(a|s)`` ``[N, A]`` by the action in units of half its range; 0 where that
        range is one value.

        Args:
            observations: ``[N, O]`` in the data's units.
            actions: ``[N, A]`` in the data's units.

        Raises:
            ConditionError: the policy cannot be called with such observations, or gives neither
                finite actions of this shape nor a distribution of them.
        """
        if not (observations.isfinite().all() and actions.isfinite().all()):
            return torch.zeros_like(actions)  # no fault of the policy's: sampling ends by them
        middle, half = self._range(actions)
        width = torch.where(half > 0, half, 1)  # an action that is always the same stays that
        acts = answer_of(self.policy, observations)
        if hasattr(acts, "log_prob"):
            inside = ((actions - middle) / width).clamp(-INSIDE, INSIDE) * half + middle
            gradient = slope_of(acts, inside) * half
        else:
            gradient = (aims_of(acts, actions) - actions) / width
        return require_finite(torch.where(half > 0, gradient, 0))

    def guided(self, denoise: Denoise, space: Space, sigma_data: float = 1.0) -> Denoise:
        """The denoiser that follows the policy; ``space`` is the model's normaliser."""
        if self.strength == 0:
            return denoise

        def following(x: Tensor, sigma: float) -> Tensor:
            denoised = denoise(x, sigma)
            return self._moved(denoised, space, self.share(sigma, sigma_data))

        return following

    def _moved(self, denoised: Tensor, space: Space, share: float) -> Tensor:
        columns = self.layout.columns
        where = columns["actions"]
        rows = space.unnormalize(denoised)
        gradient = self.gradient(rows[:, columns["observations"]], rows[:, where])
        length = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp(min=1)
        aims = rows.clone()
        aims[:, where] += share / length * gradient * self._range(rows)[1]
        # Both are taken there and back: where the map is not one to one, as at an action that many
        # rows share, an action that does not move in the data does not move in model space.
        shift = space.normalize(aims) - space.normalize(rows)
        moved = denoised.clone()
        moved[:, where] += shift[:, where]
        return moved

    def _range(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Middle and half of the actions' range ``[A]``."""
        low, high = self.low.to(like), self.high.to(like)
        return (low + high) / 2, (high - low) / 2

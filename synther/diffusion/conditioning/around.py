"""Samples near real rows: these are noised in part, and denoised under another condition.

Generative trajectory augmentation (GTA, Lee et al. 2024, arXiv 2405.16907) does so with pieces of
trajectories and their returns; here it is done with single transitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from synther.diffusion.conditioning.condition import Condition, ConditionError, Target

NOISE = 0.5
"""Share of the schedule, where nothing else is said."""
MORE, LESS = 1.3, 0.7
"""A condition of 0 or more is asked for so many times, a negative one so many times."""


@dataclass(frozen=True, eq=False)
class Around:
    """A target of samples that begin at real rows.

    Args:
        rows: of the model's layout, one for each sample, ``[N, D]`` in data space.
        noise: the share of the sampler's steps that are taken: the rows are noised to the level
            where so many are left. 1 leaves nothing of them, and near 0 all.
        target: what they are asked for; None: rows as they come.
    """

    rows: Tensor
    noise: float = NOISE
    target: Target | None = None

    def __post_init__(self) -> None:
        if not 0 < self.noise <= 1:
            raise ConditionError(f"noise is {self.noise}, expected more than 0, at most 1")
        if not isinstance(self.rows, Tensor):
            raise ConditionError(
                f"rows to begin at are of type {type(self.rows).__name__}, expected a tensor "
                "[N, D], which torch.from_numpy makes of an array"
            )
        if not (finite := self.rows.isfinite()).all():
            row = int(finite.logical_not().nonzero()[0, 0])
            raise ConditionError(f"rows to begin at are not finite in row {row}; leave it out")


def amplified(condition: Condition, values: ArrayLike) -> NDArray[np.float64]:
    """What rows of ``values [N]`` are asked for: ``MORE`` of it, or, where that is negative,
    ``LESS``; at most the highest value that the model was trained with."""
    numbers = np.asarray(values, np.float64)
    asked = np.where(numbers >= 0, MORE, LESS) * numbers
    return np.clip(asked, condition.quantiles[0], condition.quantiles[-1])


def rest_of(sigmas: Tensor, noise: float) -> Tensor:
    """The last ``noise`` of the steps between noise levels ``[N + 1]``, one at least."""
    steps = len(sigmas) - 1
    return sigmas[steps - max(1, round(noise * steps)) :]


def sampler_from(name: str, level: float, params: Mapping[str, Any]) -> str:
    """The sampler that starts at a noise level: one that goes above it to restart does not."""
    above = name == "restart" and params.get("restart_high", 0.5) > level
    return "dpmpp_2m" if above else name

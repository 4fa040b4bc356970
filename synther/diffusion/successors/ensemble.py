"""An ensemble says what follows an observation and an action, and how surely.

Its columns are those of a *successor*, ``[next_observation | reward | terminal]``, ``O + 2`` in
all. Smooth columns are regressions, those of the next observation as the difference ``next -
observation``, as in one-step models of model-based RL (PETS, Chua et al. 2018, arXiv 1805.12114;
MBPO, Janner et al. 2019, arXiv 1906.08253). Columns of two values, the terminal above all, are
classified from observation, action and the smooth columns of the successor: they are mostly a
matter of where the step leads. What tells most is whether the step leaves the range that
observations have, because nobody acts from where an episode has ended. Columns with a few values
more are not predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from synther.diffusion.successors.regression import StackedRegression
from synther.transitions import TransitionLayout

Kind = Literal["exact", "noisy", "flag", "left"]
"""The kind of a column. ``exact``: smooth, a function of observation and action; ``noisy``: smooth,
with noise; ``flag``: it has two values; ``left``: it has a few values more, and nothing is said of
it."""


@dataclass(frozen=True)
class Prediction:
    """What is predicted of the ``S`` smooth columns for N observations and actions.

    Args:
        mean: ``[N, S]``.
        noise: ``[N, noisy]``, the standard deviation of the noise of each noisy column.
        disagreement: ``[N]``, the variance between members in units of the mean squared error on
            held-out rows, averaged over the columns.
    """

    mean: Tensor
    noise: Tensor
    disagreement: Tensor


class TransitionEnsemble(nn.Module):
    """What :func:`synther.diffusion.successors.fitting.fit_ensemble` makes; see the module.

    Args:
        layout: the layout of the rows that it was fitted to.
        kinds: the kinds of the successor's ``O + 2`` columns.
        means: the regression of the smooth columns on observation and action.
        sizes: the regression of the logarithm of each noisy column's noise on the same.
        flags: the log-odds of each flag's higher value, given observation, action, the smooth
            columns of the successor and what :func:`leaving` says. All networks take and give
            standardised numbers.
        tables: float tensors by name.

            - ``inputs`` ``[2, O + A]``, ``outputs`` ``[2, S]`` and ``successors`` ``[2, S]``: means
              and standard deviations of what the networks take, of what they give (differences, for
              a next observation), and of the smooth columns as they are;
            - ``observed`` ``[2, O]`` and ``values`` ``[2, O + 2]``: the lowest and highest value of
              each column of observation and successor;
            - ``living`` ``[2, O]``: the former where episodes end beyond it, elsewhere infinite;
            - ``error`` ``[O + 2]``: on held-out rows, the mean squared error of the mean or of the
              flag's probability, in the column's units squared; float64 where these are so large
              that float32 does not hold the squares of them;
            - ``rate`` ``[1]``: the share of the real rows that are terminal;
            - ``atoms`` ``[O + 2]``: of a smooth column the value that many rows share, else inf;
            - ``whole`` ``[O + 2]``: 1 where all values of a column are whole numbers, else 0;
            - ``doubt`` ``[O + 2]``: the standard error of ``error``, relative to it;
            - ``sound`` ``[O + 2]``: 1 where the prediction held on held-out rows;
            - ``residuals`` ``[K, noisy]``: those of held-out rows, in units of the noise's size;
            - ``limit`` ``[1]``: the disagreement that one held-out row in a thousand exceeds.
    """

    inputs: Tensor
    outputs: Tensor
    successors: Tensor
    observed: Tensor
    living: Tensor
    values: Tensor
    error: Tensor
    rate: Tensor
    atoms: Tensor
    whole: Tensor
    doubt: Tensor
    sound: Tensor
    residuals: Tensor
    limit: Tensor

    def __init__(
        self,
        layout: TransitionLayout,
        kinds: tuple[Kind, ...],
        means: StackedRegression,
        sizes: StackedRegression,
        flags: StackedRegression,
        tables: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.layout, self.kinds = layout, kinds
        self.means, self.sizes, self.flags = means, sizes, flags
        for name, table in tables.items():
            self.register_buffer(name, table)
        self.smooth = self.columns_of("exact", "noisy")
        self.noisy = [self.smooth.index(column) for column in self.columns_of("noisy")]
        self.requires_grad_(False)

    @property
    def column_names(self) -> list[str]:
        """The names of the successor's columns."""
        dim = self.layout.observation_dim
        return [f"next_observations[{i}]" for i in range(dim)] + ["rewards", "terminals"]

    def columns_of(self, *kinds: Kind) -> list[int]:
        """The numbers of those of the successor's columns that are of these kinds."""
        return [number for number, kind in enumerate(self.kinds) if kind in kinds]

    def relative_errors(self) -> dict[str, float]:
        """The root mean squared error on held-out rows by the column's name: in standard deviations
        of a smooth column, and of a flag that of its probability. Columns that are constant or not
        predicted are left out."""
        scale = torch.ones_like(self.successors[1, :1]).repeat(len(self.error))
        scale[self.smooth] = self.successors[1]
        roots = (self.error.sqrt() / scale.clamp_min(1e-30)).tolist()
        constant = (self.values[0] == self.values[1]).tolist()
        named = zip(self.column_names, self.kinds, constant, roots, strict=True)
        return {
            name: float(f"{root:.4g}")
            for name, kind, same, root in named
            if kind != "left" and not same
        }

    @torch.no_grad()
    def predict(self, observations: Tensor, actions: Tensor) -> Prediction:
        """Predict the smooth columns from observations ``[N, O]`` and actions ``[N, A]``."""
        inputs = standardised(torch.cat([observations, actions], dim=1), self.inputs)
        members = self.means(inputs)
        center, scale = self.outputs
        mean = members.mean(dim=0) * scale + center + offsets(observations, self.smooth)
        spread = (members - members.mean(dim=0)).square().mean(dim=0)
        between = spread * scale.to(self.error.dtype).square()
        error = self.error[self.smooth]
        between = torch.where(error > 0, between / error, 0).sum(dim=1) / max(1, len(self.smooth))
        noise = self.sizes(inputs).mean(dim=0).exp() * scale[self.noisy]
        return Prediction(self._bounded(mean), noise, between)

    def drawn(self, prediction: Prediction, chance: Tensor) -> Tensor:
        """Draw the smooth columns ``[N, S]``, noise included.

        Args:
            prediction: what :meth:`predict` gave for the rows.
            chance: ``[N]`` in [0, 1); it chooses the held-out residual that each row takes.
        """
        count = len(self.residuals)
        residuals = self.residuals[(chance * count).long().clamp(max=count - 1)]
        successors = prediction.mean.clone()
        successors[:, self.noisy] += prediction.noise * residuals
        whole = self.whole[self.smooth] > 0
        return self._bounded(torch.where(whole, successors.round(), successors))

    @torch.no_grad()
    def flag_probabilities(
        self, observations: Tensor, actions: Tensor, successors: Tensor
    ) -> Tensor:
        """The probability of the higher value of each flag, ``[N, flags]``.

        Args:
            observations, actions: ``[N, O]``, ``[N, A]``.
            successors: the smooth columns, ``[N, S]``.
        """
        inputs = standardised(torch.cat([observations, actions], dim=1), self.inputs)
        smooth = standardised(successors, self.successors)
        following = [column for column in self.smooth if column < self.layout.observation_dim]
        left = leaving(successors[:, : len(following)], self.observed[:, following])
        return self.flags(torch.cat([inputs, smooth, left], dim=1)).sigmoid().mean(dim=0)

    def _bounded(self, successors: Tensor) -> Tensor:
        low, high = self.values[:, self.smooth]
        return successors.clamp(low, high)

    def payload(self) -> dict[str, Any]:
        """The ensemble as tensors on the CPU and plain values, for a checkpoint."""
        return {
            "layout": asdict(self.layout),
            "kinds": list(self.kinds),
            "shapes": {name: getattr(self, name).shape() for name in ("means", "sizes", "flags")},
            "weights": {name: value.cpu() for name, value in self.state_dict().items()},
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> TransitionEnsemble:
        """The ensemble of which :meth:`payload` gave this, on the CPU.

        Raises:
            KeyError, RuntimeError: another payload.
        """
        # A model's file of before these were kept has none.
        columns = torch.zeros(len(payload["kinds"]))
        unknown = {
            "rate": torch.full((1,), torch.nan), "atoms": columns + torch.inf, "whole": columns
        }  # fmt: skip
        weights = {**unknown, **payload["weights"]}
        tables = {name: value for name, value in weights.items() if "." not in name}
        ensemble = cls(
            TransitionLayout(**payload["layout"]),
            tuple(payload["kinds"]),
            **{name: StackedRegression.empty(**each) for name, each in payload["shapes"].items()},
            tables=tables,
        )
        ensemble.load_state_dict(weights)
        return ensemble


def standardised(values: Tensor, statistics: Tensor) -> Tensor:
    """Values ``[N, D]`` less the mean, over the standard deviation ``[2, D]``; constant columns
    become 0."""
    center, scale = statistics
    return torch.where(scale > 0, (values - center) / scale.clamp_min(1e-30), 0)


def offsets(observations: Tensor, columns: list[int]) -> Tensor:
    """What the regression's differences are taken from, ``[N, len(columns)]``: the observation for
    a column of the next observation, else 0."""
    rest = observations.new_zeros(len(observations), 2)
    return torch.cat([observations, rest], dim=1)[:, columns]


def leaving(next_observations: Tensor, observed: Tensor) -> Tensor:
    """Whether each column ``[N, D]`` is below, and whether it is above, the range ``[2, D]`` that
    observations have: ``[N, 2 D]``, 0 or 1."""
    low, high = observed
    return torch.cat([next_observations < low, next_observations > high], dim=1).float()

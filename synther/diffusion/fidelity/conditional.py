"""Conditional measures say whether samples obey the law of what follows observation and action.

No simulator is asked. A regression that was trained on real rows says what follows, and how far
held-out real rows are from what it says is the measure of how far samples may be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.diffusion.fidelity.distances import standardise
from synther.diffusion.fidelity.held_out import draw
from synther.diffusion.fidelity.neighbours import nearest
from synther.transitions import Transitions

Column = NDArray[np.float64]
NEIGHBOUR_ROWS = 5_000
"""Rows of each kind, at most, whose residuals are compared with those of their neighbours."""


class Means(Protocol):
    """What a regression predicts."""

    @property
    def mean(self) -> Tensor: ...


class Successors(Protocol):
    """A regression of what follows, over the columns ``[next_observation | reward | terminal]``."""

    @property
    def column_names(self) -> list[str]:
        """Of these columns, ``O + 2``."""

    @property
    def smooth(self) -> list[int]:
        """Numbers of the columns that :meth:`predict` gives, ``S`` of them."""

    @property
    def noisy(self) -> list[int]:
        """Of the smooth columns, numbers below ``S``: those that are no function of observation and
        action, but have noise."""

    @property
    def values(self) -> Tensor:
        """The lowest and the highest value of these columns ``[2, O + 2]``: of a flag its two."""

    def columns_of(self, kind: Literal["flag"], /) -> list[int]:
        """Numbers of the columns of two values, ``F`` of them."""

    def predict(self, observations: Tensor, actions: Tensor, /) -> Means:
        """Observations ``[N, O]`` and actions ``[N, A]`` -> the mean of the smooth columns
        ``[N, S]``."""

    def flag_probabilities(
        self, observations: Tensor, actions: Tensor, successors: Tensor, /
    ) -> Tensor:
        """How probable the higher value of each flag is, ``[N, F]``; ``successors`` are the smooth
        columns ``[N, S]``."""


@dataclass(frozen=True)
class ConditionalColumn:
    """A smooth column of samples, beside held-out real rows.

    Args:
        name: ``differences[i]`` or ``rewards``.
        ratio: root mean squared distance from what the regression says, over that of held-out rows:
            the *conditional error* in units of the regression's held-out error. 1 for real rows.
        excess: by how much the mean squared distance is larger than that of held-out rows, in units
            of the variance of the column: the share of what a step changes that does not follow the
            law. 0 for real rows; 1 and more where another constant would do as well.
        excess_error: its standard error.
        noise: *conditional noise*: the standard deviation of what observation and action leave
            open, over that of held-out rows. None for a column without noise.
        noise_error: its standard error.
    """

    name: str
    ratio: float
    excess: float
    excess_error: float
    noise: float | None = None
    noise_error: float | None = None


@dataclass(frozen=True)
class FlagColumn:
    """A column of two values, mostly the terminal, against what the regression expects.

    Args:
        name: of the column.
        real, synthetic: rows with the less probable value, of ``real_rows`` and ``rows``.
    """

    name: str
    real: int
    real_rows: int
    synthetic: int
    rows: int


@dataclass(frozen=True)
class Conditional:
    """Every column that the regression predicts."""

    columns: tuple[ConditionalColumn, ...]
    flags: tuple[FlagColumn, ...]

    @property
    def ratio(self) -> float:
        """Geometric mean of the columns' conditional errors; NaN without a column."""
        logarithms = [math.log(max(column.ratio, 1e-12)) for column in self.columns]
        return math.exp(sum(logarithms) / len(logarithms)) if logarithms else math.nan


def conditional(
    successors: Successors, held_out: Transitions, synthetic: Transitions
) -> Conditional:
    """Compare how far real and synthetic rows are from what a regression says.

    Noise is measured without the mean, so that a wrong mean does not hide that noise is lost: by
    half the mean squared difference of the residuals of neighbours in observation and action, from
    equally many rows of either kind (the difference-based estimate of a residual variance, Rice
    1984, "Bandwidth choice for nonparametric regression", with nearest neighbours in more than one
    dimension).

    Args:
        successors: trained on rows that are none of ``held_out``; on the CPU.
        held_out: real rows, two or more.
        synthetic: samples, two or more.
    """
    real, drawn = (_Residuals.of(successors, rows) for rows in (held_out, synthetic))
    count = min(len(held_out), len(synthetic), NEIGHBOUR_ROWS)
    pairs = [_neighbours(rows, held_out, count) for rows in (held_out, synthetic)]
    columns = []
    for index, number in enumerate(successors.smooth):
        values = real.targets[:, index]
        if np.ptp(values) == 0:
            continue  # a constant has no variance to measure by; discrete.py looks at it
        name = successors.column_names[number].replace("next_observations", "differences")
        residuals = real.values[:, index], drawn.values[:, index]
        column = _column(name, *residuals, values)
        if index in successors.noisy:
            gaps = [
                each[own] - each[other] for each, (own, other) in zip(residuals, pairs, strict=True)
            ]
            if (found := _noise(*gaps)) is not None:
                column = replace(column, noise=found[0], noise_error=found[1])
        columns.append(column)
    names = [successors.column_names[number] for number in successors.columns_of("flag")]
    flags = [
        FlagColumn(name, int(a.sum()), len(a), int(b.sum()), len(b))
        for name, a, b in zip(names, real.wrong_flags.T, drawn.wrong_flags.T, strict=True)
    ]
    return Conditional(tuple(columns), tuple(flags))


@dataclass(frozen=True)
class _Residuals:
    """Of N rows: smooth columns less what the regression says ``[N, S]``, these columns (a next
    observation as a difference) ``[N, S]``, and which flags are improbable ``[N, F]``."""

    values: NDArray[np.float64]
    targets: NDArray[np.float64]
    wrong_flags: NDArray[np.bool_]

    @classmethod
    @torch.no_grad()
    def of(cls, successors: Successors, rows: Transitions) -> _Residuals:
        observations, actions = map(torch.from_numpy, (rows.observations, rows.actions))
        found = _successors_of(rows)
        smooth = found[:, successors.smooth].astype(np.float64)
        predicted = successors.predict(observations, actions).mean.cpu().numpy()
        before = np.hstack([rows.observations, np.zeros((len(rows), 2), np.float32)])
        flags = successors.columns_of("flag")
        probable = successors.flag_probabilities(
            observations, actions, torch.from_numpy(smooth.astype(np.float32))
        )
        # The higher value, whichever two there are in the regression's rows: of a terminal this is
        # 1. The rows that are judged may all have the same one.
        low, high = successors.values[:, flags].cpu().numpy()
        raised = found[:, flags] > (low + high) / 2
        return cls(
            values=smooth - predicted,
            targets=smooth - before[:, successors.smooth],
            wrong_flags=(probable.cpu().numpy() > 0.5) != raised,
        )


def _successors_of(rows: Transitions) -> NDArray[np.float32]:
    return np.hstack([rows.next_observations, rows.rewards[:, None], rows.terminals[:, None]])


def _column(name: str, real: Column, synthetic: Column, targets: Column) -> ConditionalColumn:
    squares = real**2, synthetic**2
    expected, found = (float(each.mean()) for each in squares)
    # Where the regression is exact, rounding to float32 is what is left.
    rounding = float(np.finfo(np.float32).eps * np.abs(targets).max()) ** 2
    variance = float(targets.var())
    error = math.sqrt(sum(float(each.var()) / len(each) for each in squares))
    return ConditionalColumn(
        name=name,
        ratio=math.sqrt((found + rounding) / (expected + rounding)),
        excess=(found - expected) / variance,
        excess_error=error / variance,
    )


def _neighbours(
    rows: Transitions, units: Transitions, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``count`` rows, and of each the nearest other one of them in observation and action."""
    own = draw(len(rows), count, 0)
    points, reference = (
        np.hstack([each.observations, each.actions]) for each in (rows.subset(own), units)
    )
    scaled = standardise(points, reference)
    return own, own[nearest(scaled, scaled, own_rows=np.arange(count))[1]]


def _noise(real: Column, synthetic: Column) -> tuple[float, float] | None:
    """The ratio of two standard deviations, from the differences of neighbours, and its error; None
    where real neighbours are equal, so that there is nothing to measure by."""
    variances = [float(np.mean(gaps**2)) / 2 for gaps in (real, synthetic)]
    if variances[0] == 0:
        return None
    if variances[1] == 0:  # neighbours are equal, as where every sample is the same row
        return 0.0, 0.0
    ratio = math.sqrt(variances[1] / variances[0])
    # Relative error of either variance. Neighbours share rows: the factor 2 is for counting each
    # row about twice.
    relative = [
        2 * float(np.var(gaps**2 / 2)) / len(gaps) / variance**2
        for gaps, variance in zip((real, synthetic), variances, strict=True)
    ]
    return ratio, ratio * math.sqrt(sum(relative)) / 2

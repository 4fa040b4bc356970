"""Novelty tells copies from new rows, by the distance to the rows that a model was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from synther.diffusion.fidelity import limits
from synther.diffusion.fidelity.distances import Advance, Rows
from synther.diffusion.fidelity.neighbours import nearest, nearest_distances

COPY_QUANTILE = 0.001
"""Share of the held-out rows that are as near to a training row as a copy is said to be."""


@dataclass(frozen=True)
class Novelty:
    """Distances of rows to their nearest training row, beside those of real rows that were not
    trained on.

    Args:
        median, low, high: the median of the distances, and their 5 % and 95 % quantiles.
        nearer: the chance that a row is nearer to the training rows than a real row is; 0.5 where
            the two do not differ, 1 for copies. It is low for samples that are off the data, and
            high for samples that keep to where the data are dense: no sign of copies by itself.
        close: share of the rows that are nearer than 99 % of the real ones; 0.01 where the two do
            not differ.
        memorised: whether ``nearer_to_training`` or ``copies`` is beyond its limit.
        rows: how many were measured.
        nearer_to_training: share of the rows that are nearer to a training row than to a held-out
            one, out of equally many of each, ties counting half; 0.5 for samples that know the law
            alone, wherever they are (Platzer and Reutterer 2021, "Holdout-based empirical
            assessment of mixed-type synthetic data"). None where no row is known to be unseen.
        nearer_to_training_error: its standard error.
        copies: share of the rows that are as much nearer to a training row than to a held-out one
            as the nearest ``COPY_QUANTILE`` of real rows are: copies, and a few that are not. None
            where no pair of distances was measured.
        copies_expected: that share of real rows.
        copies_limit: up to which share it may be chance.
    """

    median: float
    low: float
    high: float
    nearer: float
    close: float
    memorised: bool
    rows: int
    nearer_to_training: float | None = None
    nearer_to_training_error: float | None = None
    copies: float | None = None
    copies_expected: float | None = None
    copies_limit: float | None = None

    def evidence(self) -> str:
        """The two figures that ``memorised`` follows from, in words."""
        parts = []
        if self.copies is not None and self.copies_limit is not None:
            parts.append(f"{self.copies:.2%} of the rows (chance: at most {self.copies_limit:.2%})")
        if self.nearer_to_training is not None:
            parts.append(
                f"{self.nearer_to_training:.1%} +- {self.nearer_to_training_error:.1%} nearer to a "
                "training row than to a held-out one"
            )
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Nearness:
    """Of N rows, what :class:`Neighbourhood` finds.

    Args:
        distances: ``[N]``, to the nearest row that may have been trained on.
        ratios: ``[N]``, the distance to the nearest training row over that to the nearest held-out
            row: 0 for a copy, and 1 where a row is a copy of both.
        share, share_error: as ``nearer_to_training`` of :class:`Novelty`; NaN where no row is known
            to be unseen.
    """

    distances: NDArray[np.float64]
    ratios: NDArray[np.float64]
    share: float
    share_error: float


class Neighbourhood:
    """Training and held-out rows that samples are near to.

    Args:
        training, held_out: ``[N, D]`` and ``[M, D]``, in comparable units (see
            :func:`synther.diffusion.fidelity.distances.standardise`).
        unseen: whether the held-out rows are known not to have been trained on. Otherwise a copy
            of either counts as one, and the larger distance is the measure of the smaller.
        seed: which training rows take part where there have to be as many as held-out ones.
    """

    def __init__(self, training: Rows, held_out: Rows, *, unseen: bool = True, seed: int = 0):
        self.training, self.held_out, self.unseen = training, held_out, unseen
        count = min(len(training), len(held_out))
        rng = np.random.default_rng((seed, 0x0DC2))
        self._sampled = [
            rows[np.sort(rng.choice(len(rows), count, replace=False))]
            for rows in (training, held_out)
        ]

    def of(
        self,
        rows: Rows,
        *,
        own_rows: NDArray[np.integer] | None = None,
        advance: Advance | None = None,
    ) -> Nearness:
        """Measure rows ``[N, D]``.

        Args:
            own_rows: where the rows are held-out ones, their numbers: none is its own neighbour.
            advance: called with the number of rows that are newly done.
        """
        to_training = nearest_distances(rows, self.training, advance=advance)
        to_held_out = nearest_distances(rows, self.held_out, own_rows=own_rows)
        low, high = to_training, to_held_out
        if not self.unseen:
            low, high = np.minimum(low, high), np.maximum(low, high)
        same = (low == 0) & (high == 0)
        ratios = np.divide(low, high, out=np.full(len(rows), np.inf), where=high > 0)
        share, error = math.nan, math.nan
        if self.unseen and own_rows is None:
            share, error = self._share_nearer_to_training(rows)
        return Nearness(low, np.where(same, 1.0, ratios), share, error)

    def _share_nearer_to_training(self, rows: Rows) -> tuple[float, float]:
        """The share, and its error over all ways to call half of the real rows training rows.

        A real row that is the nearest of many samples counts for all of them at once, so that the
        error is larger than that of a coin tossed for each sample.
        """
        (to_training, own), (to_held_out, other) = (nearest(rows, base) for base in self._sampled)
        won = np.where(to_training == to_held_out, 0.5, to_training < to_held_out)
        count = len(self._sampled[0])
        # Of each real row, the share of samples that it is the nearest to.
        weights = np.r_[np.bincount(own, won, count), np.bincount(other, 1 - won, count)]
        weights /= len(rows)
        variance = np.sum((weights - weights.mean()) ** 2) / 4 * (2 * count) / (2 * count - 1)
        return float(won.mean()), math.sqrt(variance)


def novelty(rows: Nearness, real: Nearness) -> Novelty:
    """Summarise how near rows are, and judge whether they are copies.

    Args:
        rows: those in question.
        real: real rows that were not trained on.
    """
    distances, real_distances = rows.distances, real.distances
    threshold = np.quantile(real_distances, 0.01)
    smaller = scipy.stats.mannwhitneyu(real_distances, distances).statistic  # pairs with d < d_real
    low, median, high = np.quantile(distances, [0.05, 0.5, 0.95])
    number = max(1, round(COPY_QUANTILE * len(real.ratios)))
    ratio = np.partition(real.ratios, number - 1)[number - 1]
    real_copies = int(np.sum(real.ratios <= ratio))
    copies = float(np.mean(rows.ratios <= ratio))
    copies_limit = limits.shares(real_copies, len(real.ratios), len(rows.ratios))[1]
    known = math.isfinite(rows.share)
    beyond = known and rows.share > 0.5 + limits.standard_errors() * rows.share_error
    return Novelty(
        median=float(median),
        low=float(low),
        high=float(high),
        nearer=float(smaller / (len(distances) * len(real_distances))),
        close=float(np.mean(distances <= threshold)),
        memorised=bool(beyond or copies > copies_limit),
        rows=len(distances),
        nearer_to_training=rows.share if known else None,
        nearer_to_training_error=rows.share_error if known else None,
        copies=copies,
        copies_expected=real_copies / len(real.ratios),
        copies_limit=copies_limit,
    )

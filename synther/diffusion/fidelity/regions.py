"""Regions say whether samples come from everywhere that real rows come from, and as often."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from synther.diffusion.fidelity.distances import Rows
from synther.diffusion.fidelity.held_out import draw

REGIONS = 20
"""Few enough for a blur of the samples to move hardly any over a border."""
ROWS_A_REGION = 10
_CENTRE_ROWS = 5_000
_ITERATIONS = 10
_CLIP = 5.0  # standard deviations: one wild column is not to be all that the regions follow


@dataclass(frozen=True)
class Regions:
    """How two sets of rows share out over the regions of the real rows.

    Args:
        elsewhere: total variation of the two shares, half the sum of their absolute differences:
            the share of the synthetic rows that would have to come from other regions.
        expected, error: mean and standard deviation of it where both sets come from one law.
        worst: the real share and the synthetic share of the region that lacks most.
    """

    elsewhere: float
    expected: float
    error: float
    worst: tuple[float, float]


def regions(training: Rows, held_out: Rows, synthetic: Rows, *, seed: int = 0) -> Regions | None:
    """Compare how often rows fall into each of ``REGIONS`` clusters of real rows.

    The bins of Richardson and Weiss (2018, "On GANs and GMMs", arXiv 1805.12462), which show modes
    that a model lacks: k-means on one half of the training rows, at most 5 000; the others and the
    held-out ones are counted.

    Args:
        training, held_out, synthetic: ``[N, D]``, in comparable units (see
            :func:`synther.diffusion.fidelity.distances.standardise`).
        seed: of the clusters.

    Returns:
        None where there are too few rows for two clusters.
    """
    chosen = draw(len(training), min(_CENTRE_ROWS, len(training) // 2), seed)
    count = min(REGIONS, len(chosen) // ROWS_A_REGION)
    if count < 2:
        return None
    clipped = [rows.astype(np.float64).clip(-_CLIP, _CLIP) for rows in (training, synthetic)]
    others = np.delete(clipped[0], chosen, axis=0)
    real = np.concatenate([others, held_out.astype(np.float64).clip(-_CLIP, _CLIP)])
    centres = _centres(clipped[0][chosen], count, seed)
    shares = [_shares(rows, centres) for rows in (real, clipped[1])]
    spread = np.sqrt(shares[0] * (1 - shares[0]) * (1 / len(real) + 1 / len(synthetic)))
    worst = int(np.argmax(shares[0] - shares[1]))
    return Regions(
        elsewhere=float(np.abs(shares[0] - shares[1]).sum() / 2),
        expected=float(math.sqrt(2 / math.pi) * spread.sum() / 2),
        # Of the absolute value of a standard normal the variance is 1 - 2 / pi.
        error=float(math.sqrt(1 - 2 / math.pi) * np.linalg.norm(spread) / 2),
        worst=(float(shares[0][worst]), float(shares[1][worst])),
    )


def _centres(rows: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """Lloyd's algorithm from ``count`` of the rows; a centre that loses all of its rows stays."""
    centres = rows[draw(len(rows), count, seed)]
    for _ in range(_ITERATIONS):
        nearest = scipy.cluster.vq.vq(rows, centres)[0]
        counts = np.bincount(nearest, minlength=count)[:, None]
        sums = [np.bincount(nearest, column, count) for column in rows.T]
        centres = np.where(counts > 0, np.stack(sums, axis=1) / np.maximum(counts, 1), centres)
    return centres


def _shares(rows: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.bincount(scipy.cluster.vq.vq(rows, centres)[0], minlength=len(centres))
    return counts / len(rows)

"""Two sets of rows are compared in marginals and correlations, as SDMetrics defines it."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from synther.diffusion.fidelity.distances import Rows
from synther.transitions import TransitionLayout, Transitions

_BLOCK = 2**16  # rows whose float64 copy is in memory at once


def differences(transitions: Transitions) -> NDArray[np.float64]:
    """``next_observations - observations`` ``[N, O]``, what a step changes. It is small against
    the observations themselves, so that neither of their columns shows whether it is right."""
    before, after = transitions.observations, transitions.next_observations
    return after.astype(np.float64) - before


def difference_names(layout: TransitionLayout) -> list[str]:
    """``differences[0]`` and so on, one for each column of an observation."""
    return [f"differences[{index}]" for index in range(layout.observation_dim)]


def marginal_similarities(a: Rows, b: Rows) -> NDArray[np.float64]:
    """``1 - D`` of each column ``[D]``, D the two-sample Kolmogorov-Smirnov statistic, the largest
    gap of the two empirical distribution functions."""
    columns = zip(a.T, b.T, strict=True)
    return np.array([1 - scipy.stats.ks_2samp(x, y, method="asymp").statistic for x, y in columns])


def correlation_similarity(a: Rows, b: Rows) -> float:
    """Mean over pairs of columns of ``1 - |rho_a - rho_b| / 2``, rho Pearson's; columns that are
    constant on either side are left out. NaN where no pair is left."""
    varying = (np.ptp(a, axis=0) > 0) & (np.ptp(b, axis=0) > 0)
    if varying.sum() < 2:
        return float("nan")
    difference = np.abs(correlations(a[:, varying]) - correlations(b[:, varying]))
    pairs = np.triu_indices(len(difference), k=1)
    return float(np.mean(1 - difference[pairs] / 2))


def correlations(rows: Rows) -> NDArray[np.float64]:
    """Pearson's ``[D, D]``, in float64 and memory that does not grow with the rows; NaN for a
    constant column."""
    mean = rows.mean(axis=0, dtype=np.float64)
    products = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        centred = rows[start : start + _BLOCK] - mean
        products += centred.T @ centred
    scale = np.where(np.ptp(rows, axis=0) > 0, np.sqrt(np.diag(products)), np.nan)
    found: NDArray[np.float64] = products / np.outer(scale, scale)
    return found


def ranks(rows: Rows) -> NDArray[np.float32]:
    """Ranks of each column, equal values sharing their mean one, about 0: Pearson's correlation of
    them is Spearman's. float32 holds them exactly to 1.6e7 rows."""
    found = np.empty(rows.shape, np.float32)
    for column in range(rows.shape[1]):
        found[:, column] = scipy.stats.rankdata(rows[:, column]) - (len(rows) + 1) / 2
    return found

"""Novelty tells copies from new rows, by the distance to the rows that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist
from torch import Tensor

from synther.diffusion.fidelity.distances import Advance, Rows

# Small enough for the products of a block to stay in the cache: twice as fast as larger ones.
_QUERIES, _BASE = 250, 2000


@dataclass(frozen=True)
class Novelty:
    """Distances of rows to their nearest training row, beside those of real rows that were not
    trained on.

    Args:
        median, low, high: the median of the distances, and their 5 % and 95 % quantiles.
        nearer: the chance that a row is nearer to the training rows than a real row is; 0.5 where
            the two do not differ, 1 for copies.
        close: share of the rows that are nearer than 99 % of the real ones; 0.01 where the two do
            not differ.
        memorised: whether ``close`` is more than twice what real rows have, beyond the error of
            counting (3 standard errors).
        rows: how many were measured.
    """

    median: float
    low: float
    high: float
    nearer: float
    close: float
    memorised: bool
    rows: int


def novelty(distances: NDArray[np.float64], real_distances: NDArray[np.float64]) -> Novelty:
    """Summarise distances to the nearest training row.

    Args:
        distances: those of the rows in question, ``[N]``.
        real_distances: those of real rows that were not trained on, ``[M]``.
    """
    threshold = np.quantile(real_distances, 0.01)
    close, real_close = (float(np.mean(d <= threshold)) for d in (distances, real_distances))
    allowed = 2 * max(real_close, 0.01)
    error = np.sqrt(allowed * (1 - allowed) / len(distances)) if allowed < 1 else 0.0
    smaller = stats.mannwhitneyu(real_distances, distances).statistic  # pairs with d < d_real
    low, median, high = np.quantile(distances, [0.05, 0.5, 0.95])
    return Novelty(
        median=float(median),
        low=float(low),
        high=float(high),
        nearer=float(smaller / (len(distances) * len(real_distances))),
        close=close,
        memorised=bool(close > allowed + 3 * error),
        rows=len(distances),
    )


def nearest_distances(
    queries: Rows,
    base: Rows,
    *,
    own_rows: NDArray[np.integer] | None = None,
    advance: Advance | None = None,
) -> NDArray[np.float64]:
    """Euclidean distance ``[N]`` from each query to its nearest row of ``base``.

    Every pair is looked at, by matrix products in float32 and blocks; the block that holds the
    nearest row is then searched in float64, so that the distance of a copy is 0.

    Args:
        queries, base: ``[N, D]`` and ``[M, D]``, in comparable units (see
            :func:`synther.diffusion.fidelity.distances.standardise`).
        own_rows: ``[N]``, for each query a row of ``base`` that does not count: itself.
        advance: called with the number of queries that are newly done.
    """
    found = np.empty(len(queries))
    rows = torch.from_numpy(np.ascontiguousarray(base, np.float32))
    # |q - r|^2 up to |q|^2 in one product: [-2 q, 1] [r, |r|^2]
    lifted = torch.cat([rows, rows.square().sum(dim=1, keepdim=True)], dim=1)
    for start in range(0, len(queries), _QUERIES):
        block = np.ascontiguousarray(queries[start : start + _QUERIES], np.float32)
        own = None if own_rows is None else own_rows[start : start + _QUERIES]
        nearest = _nearest_blocks(torch.from_numpy(block), lifted, own)
        for number in np.unique(nearest):
            chosen = np.flatnonzero(nearest == number)
            first = number * _BASE
            distances = cdist(block[chosen], base[first : first + _BASE])
            if own is not None:
                _leave_out(distances, own[chosen] - first)
            found[start + chosen] = distances.min(axis=1)
        if advance:
            advance(len(block))
    return found


def _nearest_blocks(
    queries: Tensor, lifted: Tensor, own: NDArray[np.integer] | None
) -> NDArray[np.int64]:
    """For each query the number of the block of base rows that holds the nearest one."""
    weights = torch.cat([-2 * queries, queries.new_ones(len(queries), 1)], dim=1)
    best = queries.new_full((len(queries),), torch.inf)
    nearest = torch.zeros(len(queries), dtype=torch.long)
    for number, block in enumerate(lifted.split(_BASE)):
        scores = weights @ block.T
        if own is not None:
            _leave_out(scores, own - number * _BASE)
        smallest = scores.amin(dim=1)
        nearest = torch.where(smallest < best, number, nearest)
        best = torch.minimum(smallest, best)
    return nearest.numpy()


def _leave_out(scores: Tensor | NDArray[np.float64], columns: NDArray[np.integer]) -> None:
    inside = np.flatnonzero((columns >= 0) & (columns < scores.shape[1]))
    if len(inside):
        scores[inside, columns[inside]] = np.inf

"""The sliced Wasserstein distance compares two sets of rows, in units of their spread."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]
Advance = Callable[[int], object]
"""Called with the number of items that are newly done; a progress bar's ``update`` is one."""

_BLOCK = 2**23  # projected numbers in memory at once


def standardise(rows: Rows, reference: Rows) -> NDArray[np.float32]:
    """Rows ``[N, D]`` in units of the standard deviation of each column of ``reference``, about its
    mean; a column that is constant there keeps its own unit."""
    mean = reference.mean(axis=0, dtype=np.float64)
    std = reference.std(axis=0, dtype=np.float64)
    scaled: NDArray[np.float32] = ((rows - mean) / np.where(std > 0, std, 1)).astype(np.float32)
    return scaled


def sliced_wasserstein(
    real: Rows,
    synthetic: Rows,
    *,
    projections: int = 128,
    seed: int = 0,
    advance: Advance | None = None,
) -> float:
    """Sliced 1-Wasserstein distance, in units of the real rows' standard deviation a column.

    The mean, over random directions, of the 1-Wasserstein distance between the two sets of rows
    projected onto the direction: the area between their quantile functions, exact also where the
    sets differ in size (Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters").

    Args:
        real, synthetic: the rows, ``[N, D]`` and ``[M, D]``.
        projections: the number of directions. The same seed gives the same directions, so that
            reports of several sets compare.
        seed: the seed of the directions.
        advance: called with the number of projections that are newly done.

    Raises:
        ValueError: no rows, or another number of columns.
    """
    if min(len(real), len(synthetic), projections) < 1 or real.shape[1] != synthetic.shape[1]:
        raise ValueError(
            f"rows {real.shape} and {synthetic.shape}, {projections} projections: expected one or "
            "more of each, and as many columns on either side"
        )
    a, b = standardise(real, real), standardise(synthetic, real)
    directions = np.random.default_rng(seed).normal(size=(projections, a.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    in_a, in_b, widths = _common_quantiles(len(a), len(b))
    block = max(1, _BLOCK // (len(a) + len(b)))
    total = 0.0
    for some in np.array_split(directions.astype(np.float32), -(-projections // block)):
        sorted_a, sorted_b = (np.sort(some @ rows.T, axis=1) for rows in (a, b))
        total += float((np.abs(sorted_a[:, in_a] - sorted_b[:, in_b]) @ widths).sum())
        if advance:
            advance(len(some))
    return total / projections


def _common_quantiles(
    n: int, m: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The pieces on which two empirical quantile functions are both constant: the index of the
    order statistic of either, and the width of the piece, from whole numbers of 1 / (n m)."""
    levels = np.union1d(np.arange(0, n + 1) * m, np.arange(0, m + 1) * n)
    return levels[:-1] // m, levels[:-1] // n, np.diff(levels) / (n * m)

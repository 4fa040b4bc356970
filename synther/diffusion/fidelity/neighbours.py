"""The nearest row of many is found for each row of many others, by looking at every pair."""

from __future__ import annotations

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.diffusion.fidelity.distances import Advance, Rows

# Small enough for the products of a block to stay in the cache: twice as fast as larger ones.
_QUERIES, _BASE = 250, 2000


def nearest_distances(
    queries: Rows,
    base: Rows,
    *,
    own_rows: NDArray[np.integer] | None = None,
    advance: Advance | None = None,
) -> NDArray[np.float64]:
    """Euclidean distance ``[N]`` from each query to its nearest row of ``base``; see
    :func:`nearest`."""
    return nearest(queries, base, own_rows=own_rows, advance=advance)[0]


def nearest(
    queries: Rows,
    base: Rows,
    *,
    own_rows: NDArray[np.integer] | None = None,
    advance: Advance | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Euclidean distance ``[N]`` from each query to its nearest row of ``base``, and its number.

    Every pair is looked at, by matrix products in float32 and blocks; the block that holds the
    nearest row is then searched in float64, so that the distance of a copy is 0.

    Args:
        queries, base: ``[N, D]`` and ``[M, D]``, in comparable units (see
            :func:`synther.diffusion.fidelity.distances.standardise`).
        own_rows: ``[N]``, for each query a row of ``base`` that does not count: itself.
        advance: called with the number of queries that are newly done.
    """
    found, numbers = np.empty(len(queries)), np.empty(len(queries), np.int64)
    rows = torch.from_numpy(np.ascontiguousarray(base, np.float32))
    # |q - r|^2 up to |q|^2 in one product: [-2 q, 1] [r, |r|^2]
    lifted = torch.cat([rows, rows.square().sum(dim=1, keepdim=True)], dim=1)
    for start in range(0, len(queries), _QUERIES):
        block = np.ascontiguousarray(queries[start : start + _QUERIES], np.float32)
        own = None if own_rows is None else own_rows[start : start + _QUERIES]
        blocks = _nearest_blocks(torch.from_numpy(block), lifted, own)
        for number in np.unique(blocks):
            chosen = np.flatnonzero(blocks == number)
            first = number * _BASE
            distances = scipy.spatial.distance.cdist(block[chosen], base[first : first + _BASE])
            if own is not None:
                _leave_out(distances, own[chosen] - first)
            numbers[start + chosen] = first + distances.argmin(axis=1)
            found[start + chosen] = distances.min(axis=1)
        if advance:
            advance(len(block))
    return found, numbers


def _nearest_blocks(
    queries: Tensor, lifted: Tensor, own: NDArray[np.integer] | None
) -> NDArray[np.int64]:
    """For each query the number of the block of base rows that holds the nearest one."""
    weights = torch.cat([-2 * queries, queries.new_ones(len(queries), 1)], dim=1)
    best = queries.new_full((len(queries),), torch.inf)
    found = torch.zeros(len(queries), dtype=torch.long)
    for number, block in enumerate(lifted.split(_BASE)):
        scores = weights @ block.T
        if own is not None:
            _leave_out(scores, own - number * _BASE)
        smallest = scores.amin(dim=1)
        found = torch.where(smallest < best, number, found)
        best = torch.minimum(smallest, best)
    return found.numpy()


def _leave_out(scores: Tensor | NDArray[np.float64], columns: NDArray[np.integer]) -> None:
    inside = np.flatnonzero((columns >= 0) & (columns < scores.shape[1]))
    if len(inside):
        scores[inside, columns[inside]] = np.inf

"""Numbers of other types become float32, and what does not survive this is said."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]

LARGEST_ERROR = 1e-3
"""Of a column's standard deviation, the root mean square error of its rounding beyond which the
column is no longer the one that was given."""
NOISE = 1e-13
"""Relative to a column's largest number, a standard deviation that is float64's own rounding."""
LARGEST_WHOLE = 2**24
"""Up to here float32 tells every whole number from the next."""
_BLOCK = 1 << 16
_SHOWN = 3


class PrecisionWarning(UserWarning):
    """Numbers that float32 cannot tell apart; the message names the columns and what to do."""


def to_float32(values: ArrayLike, name: str, source: str) -> FloatArray:
    """``values [N, ...]`` as C-contiguous float32; what is beyond its range becomes inf.

    A warning (:class:`PrecisionWarning`) names the columns that lose what makes their rows
    different: numbers with a large offset and little spread, such as a time in seconds since 1970,
    and whole numbers over 2^24.

    Args:
        values: numbers of any type.
        name, source: what they are and where they are from, for the warning.
    """
    array = np.asarray(values)
    if lost := lost_columns(array):
        described = [_described(array, column, name) for column in lost[:_SHOWN]]
        more = f" (and {len(lost) - _SHOWN} more columns)" if len(lost) > _SHOWN else ""
        warnings.warn(
            f"{source}: as float32, {'; '.join(described)}{more}. Subtract an offset from such a "
            "column beforehand, or give it in other units",
            PrecisionWarning,
            stacklevel=4,
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def lost_columns(values: NDArray[np.generic]) -> list[int]:
    """The columns of ``values [N, ...]``, flattened, that float32 does not hold well enough."""
    # float32 holds each number of these: bool, whole numbers of 16 bits, and itself.
    if not values.size or np.can_cast(values.dtype, np.float32):
        return []
    rows = values.reshape(len(values), -1)
    first = rows[0].astype(np.float64)
    shifted, squares, errors, peaks = np.zeros((4, rows.shape[1]))
    whole, changed = np.ones((2, rows.shape[1]), np.bool_)
    changed[:] = False
    with np.errstate(all="ignore"):
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            rounded = block.astype(np.float32)
            # Whole numbers of 64 bits are beyond float64, too.
            error = (block.astype(np.longdouble) - rounded).astype(np.float64)
            exact = block.astype(np.float64)
            offset = exact - first
            shifted += offset.sum(axis=0)
            squares += (offset**2).sum(axis=0)
            errors += (error**2).sum(axis=0)
            peaks = np.maximum(peaks, np.abs(exact).max(axis=0))
            whole &= (exact == np.rint(exact)).all(axis=0)
            changed |= (error != 0).any(axis=0)
        std = np.sqrt(np.maximum(squares / len(rows) - (shifted / len(rows)) ** 2, 0))
        blurred = (std > NOISE * peaks) & (np.sqrt(errors / len(rows)) > LARGEST_ERROR * std)
    lost = (blurred | (whole & changed & (peaks > LARGEST_WHOLE))) & np.isfinite(errors)
    return [int(column) for column in np.flatnonzero(lost)]


def _described(values: NDArray[np.generic], column: int, name: str) -> str:
    numbers = values.reshape(len(values), -1)[:, column]
    kept = len(np.unique(numbers.astype(np.float32)))
    label = name if values.ndim == 1 else f"{name}[{column}]"
    return (
        f"{len(np.unique(numbers))} different values of {label} become {kept} "
        f"({numbers.dtype} near {float(np.abs(numbers).max()):.4g})"
    )

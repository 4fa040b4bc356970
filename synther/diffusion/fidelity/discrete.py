"""Discrete columns are constant, have few values, or return to one value again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synther.diffusion.fidelity.distances import Rows
from synther.diffusion.successors.few_values import has_few_values

ATOM_SHARE = 0.01
"""From this share on a value of a continuous column is looked at, as an action's bound is."""
_ROUNDING = 4 * np.finfo(np.float32).eps  # relative; so near, two values are the same


@dataclass(frozen=True)
class Value:
    """One value of a column, and how many of the real and of the synthetic rows have it."""

    value: float
    real: int
    synthetic: int


@dataclass(frozen=True)
class DiscreteColumn:
    """A column with values that come back.

    Args:
        name: of the column.
        kind: ``constant`` (one value in all real rows), ``few`` (a few of them, see
            ``few_values.py``), or ``atoms``, a continuous column.
        values: all that the real rows have; of a continuous column those that ``ATOM_SHARE`` of the
            rows of either kind have.
        unseen: how many synthetic rows have another value; 0 for a continuous column.
        chance: the share that real rows are expected to have of values that are not among ours:
            that of the values seen once (Good and Turing).
    """

    name: str
    kind: str
    values: tuple[Value, ...]
    unseen: int
    chance: float


def discrete_columns(
    real: Rows, synthetic: Rows, names: Sequence[str]
) -> tuple[DiscreteColumn, ...]:
    """Every column ``[N, D]`` against ``[M, D]`` that is discrete in the real rows, or has atoms in
    either. Values that differ by float32's rounding alone are one."""
    columns = zip(names, real.T, synthetic.T, strict=True)
    found = [_column(name, a, b) for name, a, b in columns]
    return tuple(each for each in found if each)


def _column(name: str, real: Rows, synthetic: Rows) -> DiscreteColumn | None:
    values, counts = np.unique(real, return_counts=True)
    if len(values) == 1 or has_few_values(real):
        nearest = np.abs(synthetic[:, None] - values).argmin(axis=1)
        gaps = np.abs(synthetic - values[nearest])
        same = gaps <= _ROUNDING * np.abs(values[nearest])
        seen = np.bincount(nearest[same], minlength=len(values))
        return DiscreteColumn(
            name=name,
            kind="constant" if len(values) == 1 else "few",
            values=_values(values, counts, seen),
            unseen=int(len(synthetic) - same.sum()),
            chance=float(np.sum(counts == 1) / len(real)),
        )
    others, other_counts = np.unique(synthetic, return_counts=True)
    atoms = np.union1d(
        values[counts >= ATOM_SHARE * len(real)],
        others[other_counts >= ATOM_SHARE * len(synthetic)],
    )
    if not len(atoms) or min(len(real), len(synthetic)) * ATOM_SHARE < 2:
        return None
    return DiscreteColumn(
        name=name,
        kind="atoms",
        values=_values(atoms, _count(real, atoms), _count(synthetic, atoms)),
        unseen=0,
        chance=0.0,
    )


def _values(
    values: Rows, real: NDArray[np.integer], synthetic: NDArray[np.integer]
) -> tuple[Value, ...]:
    rows = zip(values.tolist(), real.tolist(), synthetic.tolist(), strict=True)
    return tuple(Value(*row) for row in rows)


def _count(column: Rows, values: Rows) -> NDArray[np.int64]:
    return np.array([np.sum(column == value) for value in values])

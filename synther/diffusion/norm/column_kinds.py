"""What kind of column it is, by what is seen in its data."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ColumnKind = Literal["discrete", "quantile", "mixed", "standard", "minmax", "constant"]
KINDS: tuple[ColumnKind, ...] = get_args(ColumnKind)

ROWS_A_VALUE = 10
"""A column is discrete where each of its values occurs in that many rows on average."""
END_SHARE = 0.005
"""A column is bounded where that share of the rows lies in the outer hundredth of its range."""
LONGEST_TAIL = 4.5
"""And where it does not reach further than that from its mean, in standard deviations."""
MIXED_SHARE = 0.01
"""A column is mixed where one value has that share of the rows."""


class Column(NamedTuple):
    """A column of data by its distinct values.

    Args:
        values: ``[m]`` float64, in rising order.
        shares: ``[m]`` float64, of the rows that have each.
        rows: how many there are.
        mean, std: of the column, std with Bessel's correction.
    """

    values: Tensor
    shares: Tensor
    rows: int
    mean: float
    std: float

    @classmethod
    def of(cls, column: NDArray[np.float32]) -> Column:
        """Of ``[N]``."""
        ordered = np.sort(column)
        first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        counts = np.diff(np.append(first, len(ordered)))
        wide = ordered.astype(np.float64)
        return cls(
            torch.from_numpy(wide[first]),
            torch.from_numpy(counts / len(ordered)),
            len(ordered),
            float(wide.mean()),
            float(wide.std(ddof=1)) if len(first) > 1 else 0.0,
        )

    @property
    def is_constant(self) -> bool:
        return len(self.values) == 1


def kind_of(column: Column, num_knots: int) -> ColumnKind:
    """The map that suits a column, by what is seen in its data.

    - ``constant``: one value.
    - ``discrete``: few values, such as a flag, a counter or the terminal: no more than half as many
      as there are knots, and each in ``ROWS_A_VALUE`` rows on average.
    - ``quantile``: bounded, such as an action or a velocity that the environment clips: the outer
      hundredth of its range, at one end at least, holds ``END_SHARE`` of the rows or more, and
      neither end is further from the mean than ``LONGEST_TAIL`` standard deviations.
    - ``mixed``: continuous but for a value, such as the reward 0, that ``MIXED_SHARE`` of the rows
      or more have.
    - ``standard``: any other. Quantiles would make heavy tails short, which pleases a classifier
      and costs accuracy: an error in model space is then a large one in the data.
    """
    if column.is_constant:
        return "constant"
    if is_few(column, num_knots) and column.rows >= ROWS_A_VALUE * len(column.values):
        return "discrete"
    low, high = column.values[0], column.values[-1]
    margin = 0.01 * (high - low)
    ends = (column.values <= low + margin, column.values >= high - margin)
    share = max(float(column.shares[end].sum()) for end in ends)
    tail = max(float(high) - column.mean, column.mean - float(low)) / column.std
    if share >= END_SHARE and tail <= LONGEST_TAIL:
        return "quantile"
    return "mixed" if float(column.shares.max()) >= MIXED_SHARE else "standard"


def is_few(column: Column, num_knots: int) -> bool:
    """Whether a table of that many knots holds each value as an atom."""
    return 2 * len(column.values) <= num_knots

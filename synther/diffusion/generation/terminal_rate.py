"""Rows end as many episodes as the data do: how many of which rows are drawn again for that.

The flags may be right in every row, and their rate wrong: a model of moderate size has too few or
too many of the observations from which episodes end.
"""

from __future__ import annotations

import math

from torch import Tensor

PROBE_TERMINALS, LEAST_PROBED, MOST_PROBED = 900, 2_048, 65_536
"""How many terminals a probe should have, so that their rate is known to some 3 %, and the rows
that it has at least and at most."""
EDGE_PROBED = 16_384
"""The rows of a probe where episodes end at an edge, of rows that are asked for something: their
rate of terminals is their own, and which rows may be moved to the edge has to be known."""
MOST_THINNED = 0.5
"""The share of the rows with or without a terminal that is drawn again at most."""


def probe_rows(rate: float) -> int:
    """How many samples show what rate of terminals a model has, where that of the data is ``rate``;
    nan is one that nobody knows."""
    if not 0 < rate < 1:
        return LEAST_PROBED
    wanted = math.ceil(PROBE_TERMINALS / min(rate, 1 - rate))
    return min(max(LEAST_PROBED, wanted), MOST_PROBED)


def thinned(ended: Tensor, rate: float) -> tuple[float, float]:
    """The shares of the rows without and with a terminal that are to be drawn again, one of them 0,
    so that the share of terminals becomes ``rate``.

    Both are 0 where the share is that to within a standard deviation of counting, where there is
    nothing to draw, and where the rate is none or not known.

    Args:
        ended: whether each row of a probe has a terminal, ``[n]``.
        rate: the share of the real rows that have one.
    """
    if not (0 < rate < 1 and len(ended)):
        return 0.0, 0.0
    found = float(ended.double().mean())
    by_chance = (rate * (1 - rate) / len(ended)) ** 0.5
    if abs(found - rate) <= by_chance or found in (0, 1):
        return 0.0, 0.0
    odds = found / (1 - found) * (1 - rate) / rate
    without, with_one = max(0.0, 1 - odds), max(0.0, 1 - 1 / odds)
    return min(without, MOST_THINNED), min(with_one, MOST_THINNED)

"""Limits say by how much samples may differ from real rows before a verdict turns against them.

A limit has two parts. One is the error of the measurement: two samples of one law differ as well,
and real rows must pass. It follows from the number of rows, and from ``FALSE_ALARM``. The other is
a tolerance, by which a model may miss and still be of use; a limit of error alone would turn
against every model there is, given enough rows. All tolerances stand here, each with its reason.
"""

from __future__ import annotations

import math

import scipy

FALSE_ALARM = 1e-4
"""The chance, for one kind of finding, that real rows are accused. A verdict has ten kinds, so that
one verdict on real rows in a thousand is wrong, at most."""

MARGINAL_TOLERANCE = 0.05
"""Mean Kolmogorov-Smirnov distance over the columns. Samples of the demo's model are at 0.02 to
0.04; those of a model that is too small, or was trained too short, at 0.1 and more."""

COLUMN_TOLERANCE = 0.15
"""The same distance of the worst column or difference. The demo's model has 0.1: its actions at a
bound."""

CORRELATION_TOLERANCE = 0.02
"""Loss of the mean correlation similarity. Next observations of other rows cost 0.03 and more."""

AUC_TOLERANCE = 0.2
"""Area under the ROC curve above 0.5. The classifier sees a third of the rows at an action's bound
as 0.16 to 0.2, and prefers rows that teach an agent less: it is a coarse sieve."""

REGION_TOLERANCE = 0.05
"""Share of the rows that would have to come from other regions. The demo's model has none beyond
chance; a mode that is missing has its own share of the rows."""

ODDS_TOLERANCE = 1.5
"""Ratio of the odds of a value, such as a terminal 1, to those in the real rows."""

ATOM_TOLERANCE = 0.05
"""Share of the rows at one value of a continuous column, such as an action's bound, above that of
the real rows."""

EXCESS_TOLERANCE = 0.5
"""Mean squared distance from what a regression says, above that of real rows, in units of a
column's variance: half of what a step changes is not what the action did."""

NOISE_TOLERANCE = 0.1
"""By which the standard deviation of conditional noise may be smaller than in the real rows, and by
as much, as a ratio, larger."""

UNSEEN_TOLERANCE = 0.001
"""Share of the rows with a value that a column of few values does not have in any real row."""


def standard_errors(comparisons: int = 1) -> float:
    """How many of them the largest of so many comparisons stays within, either way, but for a
    chance of ``FALSE_ALARM``."""
    return float(scipy.stats.norm.isf(FALSE_ALARM / (2 * comparisons)))


def kolmogorov_smirnov(n: int, m: int, comparisons: int = 1) -> float:
    """The two-sample statistic that the largest of so many stays below, but for ``FALSE_ALARM``:
    the asymptotic law ``P(D > x) <= 2 exp(-2 x^2 n m / (n + m))``, an upper bound for columns with
    ties."""
    return math.sqrt(math.log(2 * comparisons / FALSE_ALARM) * (1 / n + 1 / m) / 2)


def shares(
    count: int, rows: int, other_rows: int, comparisons: int = 1, odds: float = 1.0
) -> tuple[float, float]:
    """Between which shares of ``other_rows`` a value may lie that ``count`` of ``rows`` have.

    Anscombe's arcsine transform makes the error of counting the same for every share, and nearly
    Gaussian also for a handful of rows (Anscombe 1948, "The transformation of Poisson, binomial and
    negative-binomial data").

    Args:
        odds: by which ratio the odds may differ beside that error.
    """
    share = (count + 3 / 8) / (rows + 3 / 4)
    error = standard_errors(comparisons) * math.sqrt(1 / rows + 1 / other_rows)
    bounds = []
    for sign in (-1, 1):
        tolerated = 1 / (1 + (1 - share) / share * odds**-sign)
        angle = 2 * math.asin(math.sqrt(tolerated)) + sign * error
        transformed = math.sin(min(max(angle, 0.0), math.pi) / 2) ** 2
        bound = (transformed * (other_rows + 3 / 4) - 3 / 8) / other_rows
        bounds.append(min(max(bound, 0.0), 1.0))
    return bounds[0], bounds[1]


def angle(share: float) -> float:
    """On this scale the error of counting is the same for every share; see :func:`shares`."""
    return math.asin(math.sqrt(share))

"""A verdict consists of findings, one for each way in which samples can differ from real rows.

Each function here turns a measure into a finding, by the limits of ``limits.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from synther.diffusion.fidelity import limits
from synther.diffusion.fidelity.discrete import DiscreteColumn, Value
from synther.diffusion.fidelity.novelty import Novelty
from synther.diffusion.fidelity.regions import Regions
from synther.diffusion.fidelity.report import Fidelity
from synther.diffusion.fidelity.two_sample import TwoSample
from synther.diffusion.norm.column_kinds import ROWS_A_VALUE

# Mean and standard deviation of Kolmogorov's distribution, that of the statistic times
# sqrt(n m / (n + m)) where both samples come from one law.
_KOLMOGOROV_MEAN, _KOLMOGOROV_STD = 0.8687, 0.2603


@dataclass(frozen=True)
class Finding:
    """One figure of samples, and whether it speaks against them.

    Args:
        name: of the measure.
        figure: what the samples have.
        expected: what real rows have on average.
        error: one standard error of ``figure`` by the number of rows; None where the limit follows
            from an exact law, which has no use for it.
        low, high: the limits, with ``FALSE_ALARM`` and the tolerance in them; ``low`` is None where
            a figure cannot be too low.
        fault: a plain sentence, without its full stop, that says what is wrong where it is beyond.
    """

    name: str
    figure: float
    expected: float
    error: float | None
    low: float | None
    high: float
    fault: str

    @property
    def passed(self) -> bool:
        return self.figure <= self.high and (self.low is None or self.figure >= self.low)


def marginals(ours: Fidelity) -> list[Finding]:
    """The mean over the columns, and the worst column or difference."""
    real_rows, rows = ours.rows
    error = math.sqrt(1 / real_rows + 1 / rows)
    spread, mean = _KOLMOGOROV_STD * error, _KOLMOGOROV_MEAN * error
    distances = {name: 1 - score for name, score in ours.similarities.items()}
    worst = max(distances, key=lambda name: distances[name])
    return [
        Finding(
            name="marginals",
            figure=1 - ours.marginal,
            expected=mean,
            error=spread,
            low=None,
            high=limits.MARGINAL_TOLERANCE + mean + limits.standard_errors() * spread,
            fault="columns are not distributed as the real ones",
        ),
        Finding(
            name="worst_column",
            figure=distances[worst],
            expected=mean,
            error=spread,
            low=None,
            high=limits.COLUMN_TOLERANCE
            + limits.kolmogorov_smirnov(real_rows, rows, len(distances)),
            fault=f"{worst} is not distributed as the real one",
        ),
    ]


def correlations(ours: Fidelity, real: Fidelity) -> Finding:
    """The larger loss of the two mean correlation similarities against the same held-out rows.

    It is at most half the mean difference of the correlations of samples and training rows, so that
    twice what chance gives to that mean is a limit that real rows keep.
    """
    losses = [
        real.correlation - ours.correlation,
        real.rank_correlation - ours.rank_correlation,
    ]
    error = math.sqrt(1 / ours.rows[1] + 1 / real.rows[1]) / 2
    return Finding(
        name="correlations",
        figure=max((loss for loss in losses if math.isfinite(loss)), default=0.0),
        expected=0.0,
        error=error,
        low=None,
        high=limits.CORRELATION_TOLERANCE + 2 * error,
        fault="columns do not depend on each other as the real ones do",
    )


def classifier(found: TwoSample) -> Finding:
    return Finding(
        name="two_sample",
        figure=found.auc,
        expected=0.5,
        error=found.error,
        low=None,
        high=0.5 + limits.AUC_TOLERANCE + limits.standard_errors() * found.error,
        fault=f"a classifier tells them from real rows (area under the curve {found.auc:.2f})",
    )


def regions(found: Regions) -> Finding:
    real, synthetic = found.worst
    return Finding(
        name="regions",
        figure=found.elsewhere,
        expected=found.expected,
        error=found.error,
        low=None,
        high=found.expected + limits.REGION_TOLERANCE + limits.standard_errors() * found.error,
        fault=f"regions are not visited as often: one has {real:.1%} of the real rows, "
        f"{synthetic:.1%} of these",
    )


def copies(found: Novelty) -> list[Finding]:
    """Rows that are copies, and rows that keep to the training rows as a whole."""
    findings = []
    if found.copies is not None and found.copies_limit is not None:
        findings.append(
            Finding(
                name="copies",
                figure=found.copies,
                expected=found.copies_expected or 0.0,
                error=None,
                low=None,
                high=found.copies_limit,
                fault=f"{found.copies:.1%} of them are copies of training rows, or nearly so",
            )
        )
    share, error = found.nearer_to_training, found.nearer_to_training_error
    if share is not None and error is not None:
        findings.append(
            Finding(
                name="nearer_to_training",
                figure=share,
                expected=0.5,
                error=error,
                low=None,
                high=0.5 + limits.standard_errors() * error,
                fault=f"they keep to the training rows: {share:.1%} are nearer to one than to a "
                "real row of which the model knows nothing",
            )
        )
    return findings


def unseen_values(columns: Sequence[DiscreteColumn], real_rows: int, rows: int) -> Finding | None:
    """Values that a constant column, or one of few values, never has."""
    chosen = [column for column in columns if column.kind != "atoms"]
    if not chosen:
        return None

    def limit(column: DiscreteColumn) -> float:
        expected = round(column.chance * real_rows)
        rarest = min(value.real for value in column.values)
        open_ended = len(column.values) > 2 and rarest < ROWS_A_VALUE
        if not expected and not open_ended:  # each value comes back, and so there are no others
            return limits.UNSEEN_TOLERANCE
        return limits.shares(expected, real_rows, rows, len(chosen))[1] + limits.UNSEEN_TOLERANCE

    worst = max(chosen, key=lambda column: column.unseen / rows - limit(column))
    share = worst.unseen / rows
    what = (
        f"always {worst.values[0].value:g}"
        if worst.kind == "constant"
        else f"one of {len(worst.values)} values"
    )
    return Finding(
        name="unseen_values",
        figure=share,
        expected=worst.chance,
        error=None,
        low=None,
        high=limit(worst),
        fault=f"{worst.name} is {what} in the real rows, and another in {share:.1%} of these",
    )


def frequencies(
    columns: Sequence[DiscreteColumn], kind: str, real_rows: int, rows: int
) -> Finding | None:
    """How often values come, of columns with few of them (``few``) or continuous (``atoms``)."""
    atoms = kind == "atoms"
    pairs = [
        (column, value)
        for column in columns
        if column.kind == kind
        for value in (column.values if atoms else _all_but_the_commonest(column))
    ]
    if not pairs:
        return None

    def bounds(value: Value) -> tuple[float, float]:
        low, high = limits.shares(
            value.real, real_rows, rows, len(pairs), 1.0 if atoms else limits.ODDS_TOLERANCE
        )
        tolerance = limits.ATOM_TOLERANCE if atoms else 0.0
        return max(low - tolerance, 0.0), min(high + tolerance, 1.0)

    def excess(pair: tuple[DiscreteColumn, Value]) -> float:
        share = limits.angle(pair[1].synthetic / rows)
        low, high = map(limits.angle, bounds(pair[1]))
        return max(low - share, share - high)

    column, value = max(pairs, key=excess)
    share, real_share = value.synthetic / rows, value.real / real_rows
    low, high = bounds(value)
    return Finding(
        name="atoms" if atoms else "frequencies",
        figure=share,
        expected=real_share,
        error=math.sqrt(real_share * (1 - real_share) * (1 / rows + 1 / real_rows)),
        low=low,
        high=high,
        fault=f"{column.name} is {value.value:g} in {share:.2%} of them, in {real_share:.2%} of "
        "the real rows",
    )


def _all_but_the_commonest(column: DiscreteColumn) -> list[Value]:
    """The others say what its share is, and the rarer ones are easier to read."""
    return sorted(column.values, key=lambda value: value.real)[:-1]

"""These findings say whether samples follow the law of the data from observation and action."""

from __future__ import annotations

import math
from collections.abc import Sequence

from synther.diffusion.fidelity import limits
from synther.diffusion.fidelity.conditional import Conditional, ConditionalColumn, FlagColumn
from synther.diffusion.fidelity.findings import Finding


def law_findings(found: Conditional, terminals: bool) -> list[Finding]:
    """Conditional error, conditional noise, and flags that the regression does not expect."""
    noisy = [column for column in found.columns if column.noise is not None]
    flags = [flag for flag in found.flags if terminals or flag.name != "terminals"]
    return [
        *([_conditional_error(found.columns)] if found.columns else []),
        *([_conditional_noise(noisy)] if noisy else []),
        *([_improbable(flags)] if flags else []),
    ]


def _conditional_error(columns: Sequence[ConditionalColumn]) -> Finding:
    errors = limits.standard_errors(len(columns))

    def limit(column: ConditionalColumn) -> float:
        return limits.EXCESS_TOLERANCE + errors * column.excess_error

    worst = max(columns, key=lambda column: column.excess - limit(column))
    return Finding(
        name="conditional_error",
        figure=worst.excess,
        expected=0.0,
        error=worst.excess_error,
        low=None,
        high=limit(worst),
        fault=f"{worst.name} do not follow observation and action as in the real rows: they are off"
        f" by {worst.excess:.2g} of their variance",
    )


def _conditional_noise(columns: Sequence[ConditionalColumn]) -> Finding:
    errors = limits.standard_errors(len(columns))

    def bounds(column: ConditionalColumn) -> tuple[float, float]:
        margin = errors * (column.noise_error or 0.0)
        tolerated = 1 - limits.NOISE_TOLERANCE
        return tolerated - margin, 1 / tolerated + margin

    def excess(column: ConditionalColumn) -> float:
        low, high = bounds(column)
        return max(low - (column.noise or 0.0), (column.noise or 0.0) - high)

    worst = max(columns, key=excess)
    low, high = bounds(worst)
    noise = worst.noise or 0.0
    return Finding(
        name="conditional_noise",
        figure=noise,
        expected=1.0,
        error=worst.noise_error,
        low=low,
        high=high,
        fault=f"{worst.name} have {noise:.2f} times the noise of the real rows",
    )


def _improbable(flags: Sequence[FlagColumn]) -> Finding:
    def limit(flag: FlagColumn) -> float:
        odds = limits.ODDS_TOLERANCE
        return limits.shares(flag.real, flag.real_rows, flag.rows, len(flags), odds)[1]

    worst = max(
        flags, key=lambda flag: limits.angle(flag.synthetic / flag.rows) - limits.angle(limit(flag))
    )
    share, expected = worst.synthetic / worst.rows, worst.real / worst.real_rows
    return Finding(
        name="improbable_flags",
        figure=share,
        expected=expected,
        error=math.sqrt(expected * (1 - expected) * (1 / worst.rows + 1 / worst.real_rows)),
        low=None,
        high=limit(worst),
        fault=f"{worst.name} are not what observation, action and the rest of the row make "
        f"probable in {share:.1%} of them, in {expected:.1%} of the real rows",
    )

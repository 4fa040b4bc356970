"""How close synthetic transitions are to real ones (SynthER, arXiv 2303.06614: "marginal" and
"correlation", as SDMetrics defines them).

Every number is shown beside the same one for real rows that the model never saw: a perfect model
reaches that ceiling, not 1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy import stats

from synther import atomic
from synther.transitions import TransitionLayout, Transitions


@dataclass(frozen=True)
class Fidelity:
    """Similarity of two sets of rows; every score is at most 1, which means equal.

    Args:
        marginal: mean over columns of ``1 - D``, D the two-sample Kolmogorov-Smirnov statistic.
        correlation: mean over pairs of columns of ``1 - |rho_a - rho_b| / 2``, rho Pearson's.
        rank_correlation: the same with Spearman's rho.
        columns: ``1 - D`` of each column by name.
        rows: how many rows were compared, on either side.
    """

    marginal: float
    correlation: float
    rank_correlation: float
    columns: dict[str, float]
    rows: tuple[int, int]


def compare(a: Transitions, b: Transitions, *, terminals: bool = True) -> Fidelity:
    """Marginal and correlation similarity of two sets of transitions.

    Args:
        a, b: two rows or more each, with the same columns.
        terminals: whether the terminal column counts; False where it is not modelled.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} rows: two or more of each are needed")
    layout = TransitionLayout.of(a, terminals=terminals)
    rows_a, rows_b = (layout.pack(each).astype(np.float64) for each in (a, b))
    columns = {
        name: 1 - float(stats.ks_2samp(rows_a[:, i], rows_b[:, i], method="asymp").statistic)
        for i, name in enumerate(layout.column_names)
    }
    # A column that is constant on either side has no correlation with anything.
    varying = (np.ptp(rows_a, axis=0) > 0) & (np.ptp(rows_b, axis=0) > 0)
    rows_a, rows_b = rows_a[:, varying], rows_b[:, varying]
    ranks_a, ranks_b = (stats.rankdata(rows, axis=0) for rows in (rows_a, rows_b))
    return Fidelity(
        marginal=float(np.mean(list(columns.values()))),
        correlation=_correlation_similarity(rows_a, rows_b),
        rank_correlation=_correlation_similarity(ranks_a, ranks_b),
        columns=columns,
        rows=(len(a), len(b)),
    )


def _correlation_similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mean of ``1 - |rho_a - rho_b| / 2`` over the pairs of columns; NaN where there is no pair."""
    if a.shape[1] < 2:
        return float("nan")
    difference = np.abs(np.corrcoef(a, rowvar=False) - np.corrcoef(b, rowvar=False))
    pairs = np.triu_indices(a.shape[1], k=1)
    return float(np.mean(1 - difference[pairs] / 2))


@dataclass(frozen=True)
class FidelityReport:
    """Comparisons by name, each against the rows in ``reference``."""

    reference: str
    comparisons: Mapping[str, Fidelity]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as JSON."""
        contents: dict[str, Any] = {
            "reference": self.reference,
            **{name: asdict(fidelity) for name, fidelity in self.comparisons.items()},
        }
        atomic.write_text(path, json.dumps(contents, indent=1) + "\n")
        return Path(path)

    def table(self) -> Table:
        """The scores, a row a comparison."""
        title = f"Fidelity against {self.reference} (1: no difference)"
        table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("rows", no_wrap=True)
        for heading in ("number", "marginal", " corr.", "rank corr."):
            table.add_column(heading, justify="right", min_width=len(heading))
        table.add_column("worst column", no_wrap=True)
        for name, fidelity in self.comparisons.items():
            worst = min(fidelity.columns, key=lambda column: fidelity.columns[column])
            scores = (fidelity.marginal, fidelity.correlation, fidelity.rank_correlation)
            table.add_row(
                name,
                f"{fidelity.rows[1]}",
                *(f"{score:.4f}" for score in scores),
                f"{fidelity.columns[worst]:.3f} {worst}",
            )
        return table


def report(
    training: Transitions,
    synthetic: Transitions,
    held_out: Transitions | None = None,
    *,
    terminals: bool = True,
) -> FidelityReport:
    """Synthetic rows against held-out real rows, with the training rows' own score as the ceiling.

    Without held-out rows the synthetic rows are compared with the training rows, and there is no
    ceiling to show.
    """
    if held_out is None:
        against_training = compare(training, synthetic, terminals=terminals)
        return FidelityReport("the training rows", {"synthetic": against_training})
    return FidelityReport(
        "held-out real rows",
        {
            "training": compare(held_out, training, terminals=terminals),
            "synthetic": compare(held_out, synthetic, terminals=terminals),
        },
    )

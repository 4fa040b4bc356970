"""A report compares synthetic transitions with real ones (SynthER, arXiv 2303.06614).

Every number is shown beside the same one for real rows that the model never saw: a perfect model
reaches that ceiling, not 1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from synther.action_bounds import ActionBounds
from synther.datasets.action_units import sample_bounds
from synther.diffusion.fidelity.distances import Advance, sliced_wasserstein
from synther.diffusion.fidelity.dynamics import DynamicsError
from synther.diffusion.fidelity.held_out import HELD_OUT
from synther.diffusion.fidelity.novelty import Novelty
from synther.diffusion.fidelity.similarity import (
    correlation_similarity,
    difference_names,
    differences,
    marginal_similarities,
    ranks,
)
from synther.files import atomic
from synther.transitions import TransitionLayout, Transitions

T = TypeVar("T")


@dataclass(frozen=True)
class Fidelity:
    """Rows compared with real ones.

    Args:
        marginal: mean over columns of ``1 - D``, D the two-sample Kolmogorov-Smirnov statistic.
        correlation: mean over pairs of columns of ``1 - |rho_a - rho_b| / 2``, rho Pearson's.
        rank_correlation: the same with Spearman's rho.
        sliced_wasserstein: 0 means equal; see
            :func:`synther.diffusion.fidelity.distances.sliced_wasserstein`.
        columns: ``1 - D`` of each column by name.
        differences: the same of ``next_observations - observations``, which no mean above counts.
        rows: how many rows were compared: real ones, and those in question.
        terminal_rate: share of the rows in question that are terminal.
        actions_at_bounds: share of them with an action at or beyond its bounds, which clipping does
            not change: those that the real rows state, else [-1, 1], or the range of the real rows
            in the columns that leave it.
        dynamics: the errors in the simulator; None where not measured.
        novelty: the distances to the training rows; None where not measured.
    """

    marginal: float
    correlation: float
    rank_correlation: float
    sliced_wasserstein: float
    columns: dict[str, float]
    differences: dict[str, float]
    rows: tuple[int, int]
    terminal_rate: float
    actions_at_bounds: float
    dynamics: DynamicsError | None = None
    novelty: Novelty | None = None

    @property
    def similarities(self) -> dict[str, float]:
        """``columns`` and ``differences`` together."""
        return {**self.columns, **self.differences}


SCORES = 5
"""The number of scores that :func:`compare` computes, and of its calls of ``advance``."""


def compare(
    a: Transitions,
    b: Transitions,
    *,
    terminals: bool = True,
    action_bounds: ActionBounds | None = None,
    advance: Advance | None = None,
) -> Fidelity:
    """Rows ``b`` compared with real rows ``a``: everything that needs neither a simulator nor the
    training rows.

    Args:
        a, b: two rows or more each, with the same columns.
        terminals: whether the terminal column counts; False where it is not modelled.
        action_bounds: those of the data; None: what ``a`` says or shows of them.
        advance: called with 1 after each of ``SCORES`` scores.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} rows: two or more of each are needed")
    layout = TransitionLayout.of(a, terminals=terminals)
    rows_a, rows_b = layout.pack(a), layout.pack(b)

    def done(score: T) -> T:
        if advance:
            advance(1)
        return score

    bounds = action_bounds or sample_bounds(a)
    spans = bounds.low < bounds.high
    at_bounds = ((b.actions <= bounds.low) | (b.actions >= bounds.high)) & spans
    similarities = done(marginal_similarities(rows_a, rows_b))
    of_differences = done(marginal_similarities(differences(a), differences(b)))
    return Fidelity(
        marginal=float(similarities.mean()),
        correlation=done(correlation_similarity(rows_a, rows_b)),
        rank_correlation=done(correlation_similarity(ranks(rows_a), ranks(rows_b))),
        sliced_wasserstein=done(sliced_wasserstein(rows_a, rows_b)),
        columns=dict(zip(layout.column_names, similarities.tolist(), strict=True)),
        differences=dict(zip(difference_names(layout), of_differences.tolist(), strict=True)),
        rows=(len(a), len(b)),
        terminal_rate=float(b.terminals.mean(dtype=np.float64)),
        actions_at_bounds=float(at_bounds.any(axis=1).mean()),
    )


@dataclass(frozen=True)
class FidelityReport:
    """Comparisons by name, each against the rows in ``reference``."""

    reference: str
    comparisons: Mapping[str, Fidelity]

    def save(
        self,
        path: str | os.PathLike[str],
        verdicts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Path:
        """Write the report as JSON; what is not a number, such as the correlation of constant
        columns, is null.

        Args:
            verdicts: of comparisons by name, in JSON types; each goes under ``verdict`` of its own.
        """
        contents: dict[str, Any] = {"reference": self.reference}
        for name, fidelity in self.comparisons.items():
            contents[name] = asdict(fidelity)
            if verdicts and name in verdicts:
                contents[name]["verdict"] = verdicts[name]
        atomic.write_json(path, _without_nan(contents))
        return Path(path)

    def table(self) -> Table:
        """A row for each number, a column for each comparison, without what was not measured."""
        table = Table(title=f"Fidelity against {self.reference}", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        for name in self.comparisons:
            heading = _HEADINGS.get(name, name)
            if self.reference != HELD_OUT and name in _HEADINGS:
                heading = "real" if name == "training" else "real, others"  # seen or not, who knows
            table.add_column(heading, justify="right", no_wrap=True)
        for label, number in _NUMBERS:
            cells = [number(fidelity) for fidelity in self.comparisons.values()]
            if any(cells):
                table.add_row(label, *(cell or "-" for cell in cells))
        return table

    def notes(self) -> list[str]:
        """Why a number is missing, once each, and which rows look copied."""
        dynamics = [fidelity.dynamics for fidelity in self.comparisons.values()]
        reasons = dict.fromkeys(f"dynamics: {d.reason}" for d in dynamics if d and d.reason)
        copied = [
            f"{name}: copies of training rows, or nearly so: {fidelity.novelty.evidence()}"
            for name, fidelity in self.comparisons.items()
            if fidelity.novelty and fidelity.novelty.memorised
        ]
        return [*reasons, *copied]


def report(
    training: Transitions,
    synthetic: Transitions,
    held_out: Transitions | None = None,
    *,
    terminals: bool = True,
    reference: str = HELD_OUT,
) -> FidelityReport:
    """Synthetic rows against held-out real rows, with the training rows' own score as the ceiling;
    the cheap numbers, without simulator and novelty.

    Without held-out rows the synthetic rows are compared with the training rows, and there is no
    ceiling to show. ``reference`` says what ``held_out`` are, where the model may have seen them.
    """
    if held_out is None:
        against_training = compare(training, synthetic, terminals=terminals)
        return FidelityReport("the training rows", {"synthetic": against_training})
    bounds = sample_bounds(training, held_out)
    compared = {
        name: compare(held_out, rows, terminals=terminals, action_bounds=bounds)
        for name, rows in (("training", training), ("synthetic", synthetic))
    }
    return FidelityReport(reference, compared)


def _worst(fidelity: Fidelity) -> str:
    return min(fidelity.columns, key=lambda column: fidelity.columns[column])


def _dynamics(format_number: Callable[[DynamicsError], str | None]) -> Callable[[Fidelity], str]:
    return lambda fidelity: (fidelity.dynamics and format_number(fidelity.dynamics)) or ""


def _novelty(format_number: Callable[[Novelty], str]) -> Callable[[Fidelity], str]:
    return lambda fidelity: format_number(fidelity.novelty) if fidelity.novelty else ""


def _maybe(number: float | None, style: str = ".2g") -> str:
    return "" if number is None else format(number, style)


_HEADINGS = {"training": "real, training", "held_out": "real, held out"}
_NUMBERS: tuple[tuple[str, Callable[[Fidelity], str]], ...] = (
    ("rows", lambda f: f"{f.rows[1]}"),
    ("marginal, 1 - KS", lambda f: f"{f.marginal:.4f}"),
    ("  worst column", lambda f: f"{f.columns[_worst(f)]:.4f}"),
    ("", lambda f: _worst(f).replace("observations", "obs")),
    ("differences, 1 - KS", lambda f: f"{np.mean(list(f.differences.values())):.4f}"),
    ("  worst difference", lambda f: f"{min(f.differences.values()):.4f}"),
    ("correlation, Pearson", lambda f: f"{f.correlation:.4f}"),
    ("correlation, Spearman", lambda f: f"{f.rank_correlation:.4f}"),
    ("sliced Wasserstein, std", lambda f: f"{f.sliced_wasserstein:.4f}"),
    ("terminal rows", lambda f: f"{f.terminal_rate:.2%}"),
    ("rows with actions at bounds", lambda f: f"{f.actions_at_bounds:.2%}"),
    ("dynamics error, std^2, mean", _dynamics(lambda d: _maybe(d.next_observation))),
    ("  median", _dynamics(lambda d: _maybe(d.median))),
    ("reward error, std^2, mean", _dynamics(lambda d: _maybe(d.reward))),
    ("wrong terminals", _dynamics(lambda d: _maybe(d.terminal, ".2%"))),
    ("nearest training row, std", _novelty(lambda n: f"{n.median:.3f}")),
    ("  5 % to 95 %", _novelty(lambda n: f"{n.low:.2f} - {n.high:.2f}")),
    ("nearer than a real row", _novelty(lambda n: f"{n.nearer:.1%}")),
    ("nearer than 99 % of them", _novelty(lambda n: f"{n.close:.1%}")),
    ("nearer to training", _novelty(lambda n: _maybe(n.nearer_to_training, ".1%"))),
    ("  standard error", _novelty(lambda n: _maybe(n.nearer_to_training_error, ".1%"))),
    ("copies, or nearly so", _novelty(lambda n: _maybe(n.copies, ".2%"))),
    ("memorised", _novelty(lambda n: "YES" if n.memorised else "no")),
)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

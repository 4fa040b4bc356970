"""Synthetic rows are compared with real ones by the moments and ranges of their columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from synther.transitions import TransitionLayout

STATISTICS = ("mean", "std", "min", "max")


@dataclass(frozen=True)
class FieldStatistics:
    """The statistics of one field, in real and in synthetic rows.

    Args:
        real, synthetic: by the names in ``STATISTICS``: mean and std (population) averaged over the
            field's columns, the smallest minimum and the largest maximum of them.
        shift: of the column that fits worst, the distance between the two means, in units of its
            real standard deviation.
        worst: the name of that column.
    """

    real: dict[str, float]
    synthetic: dict[str, float]
    shift: float
    worst: str


def compare_columns(
    layout: TransitionLayout, real: Tensor, synthetic: Tensor
) -> dict[str, FieldStatistics]:
    """The statistics of each field of ``layout`` in rows ``[N, D]`` and ``[M, D]``, a row or more
    each, on whatever device they are."""
    sides = [_columns(rows) for rows in (real, synthetic)]
    shifts = (sides[0]["mean"] - sides[1]["mean"]).abs() / (sides[0]["std"] + 1e-6)
    compared = {}
    for name, where in layout.columns.items():
        ours, theirs = ({key: side[key][where] for key in STATISTICS} for side in sides)
        worst = where.start + int(shifts[where].argmax())
        compared[name] = FieldStatistics(
            _summary(ours), _summary(theirs), float(shifts[worst]), layout.column_names[worst]
        )
    return compared


def _columns(rows: Tensor) -> dict[str, Tensor]:
    variance, mean = torch.var_mean(rows, dim=0, correction=0)
    low, high = torch.aminmax(rows, dim=0)
    return {"mean": mean.cpu(), "std": variance.sqrt().cpu(), "min": low.cpu(), "max": high.cpu()}


def _summary(columns: dict[str, Tensor]) -> dict[str, float]:
    reduced = (
        columns["mean"].mean(), columns["std"].mean(), columns["min"].min(), columns["max"].max()
    )  # fmt: skip
    # Adding 0 turns -0, which a terminal that is not modelled may be, into 0.
    return {key: float(value) + 0.0 for key, value in zip(STATISTICS, reduced, strict=True)}


def as_metrics(compared: dict[str, FieldStatistics]) -> dict[str, float]:
    """The statistics under flat names, such as ``real/rewards/mean``, for a logger."""
    metrics = {}
    for field, statistics in compared.items():
        for side in ("real", "synthetic"):
            for key, value in getattr(statistics, side).items():
                metrics[f"{side}/{field}/{key}"] = value
        metrics[f"mean_shift/{field}"] = statistics.shift
    return metrics


def as_table(compared: dict[str, FieldStatistics], title: str) -> Table:
    """A table for a terminal, with two lines for each field, real above synthetic."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("field", no_wrap=True)
    table.add_column("rows", no_wrap=True)
    for heading in (*STATISTICS, "shift / std"):
        table.add_column(heading, justify="right", no_wrap=True)
    for field, each in compared.items():
        table.add_row(field, "real", *_cells(each.real))
        shift = f"{each.shift:.2f} {each.worst.removeprefix(field)}".strip()
        table.add_row("", "synthetic", *_cells(each.synthetic), shift)
    return table


def _cells(statistics: dict[str, float]) -> list[str]:
    return [f"{statistics[key]:.3g}" for key in STATISTICS]

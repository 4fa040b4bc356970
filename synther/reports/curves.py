"""Learning curves have a panel a task, a line a method, and a band of one standard error."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synther.files import atomic
from synther.files.figures import Axes, Figure
from synther.reports.runs import Run
from synther.reports.tables import Group

COLOURS = ("#2471a3", "#1e8449", "#7d3c98", "#b7950b", "#17a2a2", "#922b21", "#34495e", "#d35400")
GRID_COLUMNS = 4


def draw_curves(groups: Sequence[Group], path: str | os.PathLike[str]) -> Path:
    """Draw all groups into one ``.png``.

    A method with SynthER is a solid line in the colour of the one without, which is dashed.
    """
    panels = [(group, task) for group in groups for task in group.tasks]
    columns = min(GRID_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.6 * columns + 0.4, 2.8 * lines + 0.6), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    bases = sorted({_base(run.method) for group in groups for run in group.runs})
    colours = {base: COLOURS[index % len(COLOURS)] for index, base in enumerate(bases)}
    for axis, (group, task) in zip(axes, panels, strict=False):
        for method in group.methods:
            if runs := group.of(task, method):
                _draw_line(axis, runs, method, colours[_base(method)])
        axis.set_title(task, fontsize=9)
        axis.set_xlabel("environment steps" if group.online else "updates", fontsize=8)
        axis.set_ylabel("normalised score" if group.measure == "score" else "return", fontsize=8)
        axis.tick_params(labelsize=7)
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=max(2, columns),
        fontsize=8, frameon=False, handlelength=3,
    )  # fmt: skip
    with atomic.atomic_write(path) as file:
        figure.savefig(file, dpi=120, format="png")
    return Path(path)


def band(runs: Sequence[Run]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps that all runs were evaluated at ``[T]``, mean and standard error over runs ``[T]``."""
    steps = sorted(set[int].intersection(*(set(run.steps.tolist()) for run in runs)))
    rows = []
    for run in runs:
        values = dict(zip(run.steps.tolist(), run.values.tolist(), strict=True))
        rows.append([values[step] for step in steps])
    table = np.array(rows)
    error = np.zeros(len(steps))
    if len(runs) > 1:
        error = table.std(axis=0, ddof=1) / math.sqrt(len(runs))
    return np.array(steps), table.mean(axis=0), error


def _draw_line(axis: Axes, runs: Sequence[Run], method: str, colour: str) -> None:
    steps, mean, error = band(runs)
    style = "-" if "SynthER" in method else "--"
    axis.plot(steps, mean, style, color=colour, marker="o", markersize=3, label=method)
    axis.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)


def _base(method: str) -> str:
    return method.removesuffix(" + SynthER")

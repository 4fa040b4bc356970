"""Learning curves have a panel a task, a line a method, and a band of one standard error."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synther.files.figures import BETTER, Axes, Figure, MaxNLocator, in_style, save_figure
from synther.reports.runs import Run
from synther.reports.tables import Group

COLOURS = ("#2471a3", "#1e8449", "#7d3c98", "#b7950b", "#17a2a2", "#922b21", "#34495e", "#d35400")
GRID_COLUMNS = 4


def draw_curves(groups: Sequence[Group], path: str | os.PathLike[str]) -> Path:
    """Draw all groups into one ``.png``, and a ``.pdf`` beside it.

    A method with SynthER is a solid line in the colour of the one without, which is dashed.
    """
    panels = [(group, task) for group in groups for task in group.tasks]
    lines = math.ceil(len(panels) / GRID_COLUMNS)
    columns = math.ceil(len(panels) / lines)
    with in_style():
        figure = Figure(figsize=(2.2 * columns + 0.3, 1.8 * lines + 0.5), layout="constrained")
        _draw_panels(figure, panels, lines, columns)
    return save_figure(figure, path)


def _draw_panels(
    figure: Figure, panels: Sequence[tuple[Group, str]], lines: int, columns: int
) -> None:
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    groups = [group for group, _ in panels]
    bases = sorted({_base(run.method) for group in groups for run in group.runs})
    colours = {base: COLOURS[index % len(COLOURS)] for index, base in enumerate(bases)}
    for axis, (group, task) in zip(axes, panels, strict=False):
        for method in group.methods:
            if runs := group.of(task, method):
                _draw_line(axis, runs, method, colours[_base(method)])
        axis.set_title(task)
        axis.set_xlabel("environment steps" if group.online else "updates")
        axis.set_ylabel("normalised score" if group.measure == "score" else "return")
        axis.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].set_ylabel(f"{axes[0].get_ylabel()} {BETTER}")
    for unused in axes[len(panels) :]:
        unused.remove()
    handles = {
        label: handle
        for axis in axes[: len(panels)]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=max(2, columns),
        handlelength=3,
    )  # fmt: skip


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


def cut_lines(groups: Sequence[Group]) -> list[str]:
    """The lines that leave evaluations out, because not all runs have them: ``method on task``."""
    found = []
    for group in groups:
        for task in group.tasks:
            for method in group.methods:
                if len({tuple(run.steps.tolist()) for run in group.of(task, method)}) > 1:
                    found.append(f"{method} on {task}")
    return found


def _draw_line(axis: Axes, runs: Sequence[Run], method: str, colour: str) -> None:
    steps, mean, error = band(runs)
    style = "-" if "SynthER" in method else "--"
    axis.plot(steps, mean, style, color=colour, marker="o", markersize=2, label=method)
    axis.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)


def _base(method: str) -> str:
    return method.removesuffix(" + SynthER")

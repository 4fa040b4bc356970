"""A histogram of every column, synthetic against real, on as many pages as the columns need."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synther.diffusion.fidelity.plots import REAL, SHORT
from synther.diffusion.fidelity.report import Fidelity
from synther.files.figures import (
    TEXT_WIDTH,
    Axes,
    Figure,
    FixedLocator,
    MaxNLocator,
    in_style,
    save_figure,
)
from synther.transitions import TransitionLayout, Transitions

SYNTHETIC = "#d35400"
GRID_COLUMNS, GRID_LINES = 6, 7
PAGE = GRID_COLUMNS * GRID_LINES
BINS = 50
TAIL = 0.001
"""The bins span the real column but for this share at either side: one wild value must not squeeze
the rest into one bar."""
SAID = 0.005
"""The share of rows outside the bins from which on a panel says so."""
ATOM = 0.02
"""The share of rows at exactly the least or the greatest real value that is called a bound."""
MAX_ROWS = 200_000
"""Of each set go into the histograms, evenly spaced; more change no bar that one could see."""


def plot_marginals(
    real: Transitions,
    synthetic: Transitions,
    path: str | os.PathLike[str],
    *,
    fidelity: Fidelity,
    terminals: bool = True,
) -> Path:
    """One histogram a column, each titled with its ``1 - D_KS``, as ``.png`` and ``.pdf``.

    Columns that fit one page come in the order of the row. More of them go on several pages, the
    least similar columns first, see :func:`synther.files.figures.save_figure`.

    Args:
        real, synthetic: the rows; their numbers may differ.
        path: the ``.png`` of the first page.
        fidelity: the scores to print above the columns.
        terminals: whether the terminal column is shown.
    """
    layout = TransitionLayout.of(real, terminals=terminals)
    rows = [layout.pack(each)[:: math.ceil(len(each) / MAX_ROWS)] for each in (real, synthetic)]
    names = list(layout.column_names)
    order = list(range(len(names)))
    if len(names) > PAGE:
        order.sort(key=lambda index: fidelity.columns[names[index]])
    pages = [order[start : start + PAGE] for start in range(0, len(order), PAGE)]
    figures = []
    with in_style():
        for number, page in enumerate(pages, start=1):
            head = (
                f"{len(real)} real rows (grey) and {len(synthetic)} synthetic ones (line); "
                f"above each column 1 - D_KS, mean {fidelity.marginal:.4f};\n"
                "rows at a column's bounds are counted (real | synthetic), their bars may be cut"
            )
            if len(pages) > 1:
                head += f"; page {number} of {len(pages)}, worst first"
            figure, axes = _page(len(page), head)
            for axis, index in zip(axes, page, strict=True):
                _histogram(axis, rows[0][:, index], rows[1][:, index])
                axis.set_title(
                    f"{_short(names[index])}: {fidelity.columns[names[index]]:.3f}", fontsize=7
                )
            figures.append(figure)
    return save_figure(figures, path)


def _short(name: str) -> str:
    array, bracket, rest = name.partition("[")
    return SHORT.get(array, array) + bracket + rest


def _page(panels: int, head: str) -> tuple[Figure, list[Axes]]:
    """A page of panels. Their places are set, not found: a layout engine takes seconds for them."""
    lines = math.ceil(panels / GRID_COLUMNS)
    height = 1.15 * lines + 0.75
    figure = Figure(figsize=(TEXT_WIDTH, height))
    figure.suptitle(head, y=1 - 0.08 / height, va="top")
    places = figure.add_gridspec(
        lines, GRID_COLUMNS, left=0.02, right=0.98, wspace=0.12, hspace=0.62,
        bottom=0.3 / height, top=1 - 0.6 / height,
    )  # fmt: skip
    return figure, [figure.add_subplot(places[divmod(i, GRID_COLUMNS)]) for i in range(panels)]


def _histogram(axis: Axes, real: NDArray[np.float32], synthetic: NDArray[np.float32]) -> None:
    low, high = np.quantile(real, [TAIL, 1 - TAIL])
    margin = 0.05 * (high - low) or 0.5
    bins = np.linspace(low - margin, high + margin, BINS)
    heights = [np.histogram(each, bins)[0] / len(each) for each in (real, synthetic)]
    axis.stairs(heights[0], bins, fill=True, color=REAL, alpha=0.55)
    axis.stairs(heights[1], bins, color=SYNTHETIC, linewidth=0.9)
    axis.set_xlim(bins[0], bins[-1])
    axis.set_yticks([])
    axis.tick_params(axis="x", labelsize=6, length=2, pad=1.5)
    flag = len(values := np.unique(real)) <= 2
    axis.xaxis.set_major_locator(FixedLocator(list(values)) if flag else MaxNLocator(3))
    notes = [] if flag else _cut_bounds(axis, real, synthetic, bins, heights)
    outside = [((each < bins[0]) | (each > bins[-1])).mean() for each in (real, synthetic)]
    if max(outside) >= SAID:
        notes.append(f"outside {outside[0]:.1%} | {outside[1]:.1%}")
    if notes:  # room for them
        axis.set_ylim(0, 1.25 * axis.get_ylim()[1])
    axis.text(
        0.5, 0.97, "\n".join(notes), transform=axis.transAxes, ha="center", va="top", fontsize=5.5
    )


def _cut_bounds(
    axis: Axes,
    real: NDArray[np.float32],
    synthetic: NDArray[np.float32],
    bins: NDArray[np.float64],
    heights: list[NDArray[np.float64]],
) -> list[str]:
    """Where many rows lie at the column's bounds, their bars hide all others: they are cut, and
    the shares of the rows there, real | synthetic, are what is returned to be said."""
    ends = np.array([real.min(), real.max()])
    shares = [np.isin(each, ends).mean() for each in (real, synthetic)]
    if max(shares) < ATOM:
        return []
    inner = np.ones(BINS - 1, bool)
    inner[np.clip(np.digitize(ends, bins) - 1, 0, BINS - 2)] = False
    axis.set_ylim(0, 1.3 * max(each[inner].max() for each in heights) or None)
    return [f"at bounds {shares[0]:.0%} | {shares[1]:.0%}"]

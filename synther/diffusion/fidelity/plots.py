"""A report's pictures of all sets of samples are drawn here: correlations, projection, novelty.

The picture of one set's columns is in ``marginals_plot.py``. No picture needs pyplot or a display.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.diffusion.fidelity.assessment import RowMeasures
from synther.diffusion.fidelity.distances import standardise
from synther.diffusion.fidelity.held_out import draw
from synther.diffusion.fidelity.similarity import correlations
from synther.files.figures import (
    BETTER_DOWN,
    TEXT_WIDTH,
    Axes,
    Figure,
    LogLocator,
    NullFormatter,
    in_style,
    save_figure,
)
from synther.transitions import TransitionLayout, Transitions

REAL = "#7f8c8d"
COLOURS = ("#d35400", "#2471a3", "#1e8449", "#7d3c98", "#b7950b", "#17a2a2", "#922b21", "#34495e")
MOST_PANELS = 4  # in a line
POINTS = 3000  # of a cloud; more are no easier to see
FLOOR_DISTANCE, FLOOR_ERROR = 1e-2, 1e-7  # real rows have an error of rounding alone, near 1e-14
HELD_OUT_LABEL = {"held_out": "real, held out"}
SHORT = {
    "observations": "obs",
    "actions": "act",
    "rewards": "reward",
    "next_observations": "next obs",
    "terminals": "terminal",
}
"""Names of the arrays where there is little room."""
CORRELATION_SHIFT = 0.1  # at which the colours of a difference of correlations end


def plot_correlations(
    layout: TransitionLayout,
    real: Transitions,
    samples: Mapping[str, Transitions],
    path: str | os.PathLike[str],
) -> Path:
    """Pearson's correlations of the real rows and of each set of samples side by side, and under
    each set by how much it differs from the real ones."""
    matrices = {name: correlations(layout.pack(rows)) for name, rows in samples.items()}
    expected = correlations(layout.pack(real))
    count = 1 + len(matrices)
    size = max(TEXT_WIDTH / count, 1.7)
    with in_style():
        figure = Figure(figsize=(size * count, 2.15 * size), layout="constrained")
        axes = figure.subplots(2, count, squeeze=False)
        image: Any = _matrix(axes[0, 0], expected, layout, "real", 1)
        for column, (name, matrix) in enumerate(matrices.items(), start=1):
            _matrix(axes[0, column], matrix, layout, name, 1)
            difference = matrix - expected
            title = f"{name} - real,\nmean size {np.nanmean(np.abs(difference)):.3f}"
            shift = _matrix(axes[1, column], difference, layout, title, CORRELATION_SHIFT)
        axes[1, 0].set_axis_off()  # the place of the two scales
        bars = ((image, "correlation", "neither", 0.7), (shift, "difference", "both", 0.25))
        for drawn, label, extend, height in bars:
            place = axes[1, 0].inset_axes((0.05, height, 0.9, 0.07))
            figure.colorbar(drawn, cax=place, label=label, orientation="horizontal", extend=extend)
    return save_figure(figure, path)


def _matrix(
    axis: Axes, matrix: NDArray[np.float64], layout: TransitionLayout, title: str, limit: float
) -> Any:
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    middles = [(where.start + where.stop - 1) / 2 for where in layout.columns.values()]
    names = [SHORT[name] for name in layout.columns]
    axis.set_xticks(middles, names, fontsize=6, rotation=45)
    axis.set_yticks(middles, names, fontsize=6)
    axis.tick_params(length=0)
    for where in list(layout.columns.values())[1:]:
        axis.axhline(where.start - 0.5, color="black", linewidth=0.4)
        axis.axvline(where.start - 0.5, color="black", linewidth=0.4)
    axis.set_title(title)
    return image


def plot_projection(
    layout: TransitionLayout,
    real: Transitions,
    samples: Mapping[str, Transitions],
    path: str | os.PathLike[str],
) -> Path:
    """Rows on the first two principal components of the real ones, a panel for each set."""
    rows = layout.pack(real)
    scaled = standardise(rows, rows)
    variances, axes_of_rows = np.linalg.eigh(np.cov(scaled, rowvar=False))
    plane, shares = axes_of_rows[:, [-1, -2]], variances[[-1, -2]] / variances.sum()
    cloud = scaled @ plane
    low, high = np.quantile(cloud, [0.001, 0.999], axis=0)
    margin = 0.15 * (high - low)
    panels = {"real": real, **samples}
    with in_style():
        figure, axes = grid(len(panels), MOST_PANELS)
        colours = [REAL, *_colours(samples)]
        for axis, colour, (name, each) in zip(axes, colours, panels.items(), strict=True):
            drawn = each.subset(draw(len(each), POINTS, 0))
            points = standardise(layout.pack(drawn), rows) @ plane
            axis.scatter(
                points[:, 0],
                points[:, 1],
                s=2,
                color=colour,
                alpha=0.4,
                linewidths=0,
                rasterized=True,
            )
            axis.set_title(f"{name} ({len(drawn)} rows)")
            axis.set_xlim(low[0] - margin[0], high[0] + margin[0])
            axis.set_ylim(low[1] - margin[1], high[1] + margin[1])
        figure.supxlabel(
            f"first principal component of the real rows ({shares[0]:.0%})", fontsize=8
        )
        figure.supylabel(f"second ({shares[1]:.0%})", fontsize=8)
    return save_figure(figure, path)


def grid(panels: int, most: int) -> tuple[Figure, list[Axes]]:
    """A figure of square panels in lines of at most ``most``, the last line in the middle."""
    lines = math.ceil(panels / most)
    columns = math.ceil(panels / lines)
    size = TEXT_WIDTH / columns
    figure = Figure(figsize=(TEXT_WIDTH, size * lines + 0.3), layout="constrained")
    places = figure.add_gridspec(lines, 2 * columns)
    axes = []
    for index in range(panels):
        line, column = divmod(index, columns)
        empty = columns - (panels - line * columns) if line == lines - 1 else 0
        left = 2 * column + empty
        axes.append(figure.add_subplot(places[line, left : left + 2]))
    return figure, axes


def plot_novelty(measures: Mapping[str, RowMeasures], path: str | os.PathLike[str]) -> Path:
    """Distances to the nearest training row, and the dynamics error against them, row by row.

    Without a dynamics error, where nothing simulates the rows, there is the first panel alone.

    Args:
        measures: the measures of each set by name; ``held_out`` are real rows.
        path: the ``.png`` to write; a ``.pdf`` comes beside it.
    """
    known = any(np.isfinite(each.errors).any() for each in measures.values())
    with in_style():
        width = TEXT_WIDTH if known else TEXT_WIDTH / 2
        figure = Figure(figsize=(width, 3.0), layout="constrained")
        axes = figure.subplots(1, 2 if known else 1, squeeze=False)[0]
        _draw_distances(axes[0], measures)
        if known:
            _draw_errors(axes[1], measures)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=5 if known else 2)
    return save_figure(figure, path)


def _draw_distances(axis: Axes, measures: Mapping[str, RowMeasures]) -> None:
    for colour, (name, each) in zip(_colours(measures), measures.items(), strict=True):
        distances = np.sort(each.distances)
        shares = np.linspace(0, 1, len(distances))
        axis.plot(distances, shares, color=colour, label=HELD_OUT_LABEL.get(name, name))
    edge = np.quantile(np.concatenate([each.distances for each in measures.values()]), 0.995)
    axis.set_xlim(0, edge)
    axis.set_ylim(0, 1)
    axis.set_xlabel("distance to the nearest training row (std)")
    axis.set_ylabel("share of the rows that are nearer")
    axis.grid(alpha=0.2)


def _draw_errors(axis: Axes, measures: Mapping[str, RowMeasures]) -> None:
    """A dot for each row and a disc at each set's medians; rows of the simulator itself, whose
    errors are of rounding alone, lie on the floor."""
    floored = False
    for colour, each in zip(_colours(measures), measures.values(), strict=True):
        shown = np.flatnonzero(np.isfinite(each.errors))
        if len(shown):
            x = each.distances[shown].clip(FLOOR_DISTANCE)
            y = each.errors[shown].clip(FLOOR_ERROR)
            floored = floored or bool((each.errors[shown] < FLOOR_ERROR).any())
            chosen = draw(len(x), POINTS // 3, 0)
            axis.scatter(
                x[chosen], y[chosen], s=2, color=colour, alpha=0.25, linewidths=0, rasterized=True
            )
            axis.plot(np.median(x), np.median(y), "o", ms=7, mfc=colour, mec="white", zorder=3)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("distance to the nearest training row (std)")
    axis.set_ylabel(f"dynamics error (std$^2$)   {BETTER_DOWN}")
    axis.set_title("dots: rows, discs: medians")
    if floored:
        axis.annotate(
            f"{FLOOR_ERROR:g} and less: rounding alone", (0.98, FLOOR_ERROR), (0, 4),
            xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
            fontsize=7, color=REAL,
        )  # fmt: skip
    axis.grid(alpha=0.2)


def _colours(names: Mapping[str, Any]) -> list[str]:
    """One for each set: grey for real rows, and the same for the same samples in every picture."""
    others = [name for name in names if name != "held_out"]
    palette = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(others)}
    return [palette.get(name, REAL) for name in names]

"""The pictures of a report are drawn here, without pyplot, so that no display is ever needed."""

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
from synther.diffusion.fidelity.report import Fidelity
from synther.diffusion.fidelity.similarity import correlations
from synther.files import atomic
from synther.files.figures import Axes, Figure, LogLocator, NullFormatter
from synther.transitions import TransitionLayout, Transitions

REAL, SYNTHETIC = "#7f8c8d", "#d35400"
GRID_COLUMNS = 6
BINS = 60
COLOURS = ("#d35400", "#2471a3", "#1e8449", "#7d3c98", "#b7950b", "#17a2a2", "#922b21", "#34495e")
POINTS = 3000  # of a cloud; more are no easier to see
FLOOR_DISTANCE, FLOOR_ERROR = 1e-2, 1e-7  # real rows have an error of rounding alone, near 1e-14
CORRELATION_SHIFT = 0.1  # at which the colours of a difference of correlations end


def plot_marginals(
    real: Transitions,
    synthetic: Transitions,
    path: str | os.PathLike[str],
    *,
    fidelity: Fidelity,
    terminals: bool = True,
) -> Path:
    """One histogram a column, real against synthetic, each titled with its ``1 - D_KS``.

    Args:
        real, synthetic: the rows; their numbers may differ.
        path: the ``.png`` to write.
        fidelity: the scores to print above the columns.
        terminals: whether the terminal column is shown.
    """
    layout = TransitionLayout.of(real, terminals=terminals)
    real_rows, synthetic_rows = layout.pack(real), layout.pack(synthetic)
    names = layout.column_names
    lines = math.ceil(len(names) / GRID_COLUMNS)
    figure = Figure(figsize=(2.6 * GRID_COLUMNS, 1.9 * lines + 0.7), layout="constrained")
    axes = figure.subplots(lines, GRID_COLUMNS, squeeze=False).ravel()
    for index, name in enumerate(names):
        _histogram(axes[index], real_rows[:, index], synthetic_rows[:, index])
        axes[index].set_title(f"{name}  {fidelity.columns[name]:.3f}", fontsize=8)
    for unused in axes[len(names) :]:
        unused.set_axis_off()
    axes[0].legend(fontsize=7, frameon=False)
    figure.suptitle(
        f"Real ({len(real)} rows) and synthetic ({len(synthetic)} rows) marginals; above each "
        f"column 1 - D_KS, mean {fidelity.marginal:.4f}",
        fontsize=11,
    )
    _save(figure, path)
    return Path(path)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with atomic.atomic_write(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _histogram(axis: Axes, real: NDArray[np.float32], synthetic: NDArray[np.float32]) -> None:
    # Bins span the bulk of the real column: one wild value must not squeeze the rest into one bar.
    low, high = np.quantile(real, [0.001, 0.999])
    margin = 0.05 * (high - low) or 0.5
    bins = np.linspace(low - margin, high + margin, BINS)
    for values, colour, label in ((real, REAL, "real"), (synthetic, SYNTHETIC, "synthetic")):
        weights = np.full(len(values), 1 / len(values))
        filled = label == "real"
        axis.hist(
            np.clip(values, bins[0], bins[-1]),
            bins=list(bins),
            weights=weights,
            histtype="stepfilled" if filled else "step",
            color=colour,
            alpha=0.55 if filled else 1.0,
            linewidth=1.2,
            label=label,
        )
    axis.set_yticks([])
    axis.tick_params(axis="x", labelsize=7)


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
    figure = Figure(figsize=(0.9 + 3.1 * count, 6.2), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    axes[1, 0].set_axis_off()
    image: Any = _matrix(axes[0, 0], expected, layout, "real", 1)
    for column, (name, matrix) in enumerate(matrices.items(), start=1):
        _matrix(axes[0, column], matrix, layout, name, 1)
        difference = matrix - expected
        title = f"{name} - real, mean size {np.nanmean(np.abs(difference)):.3f}"
        shift = _matrix(axes[1, column], difference, layout, title, CORRELATION_SHIFT)
    figure.colorbar(image, ax=axes[0], label="correlation", shrink=0.9)
    figure.colorbar(shift, ax=axes[1], label="difference", shrink=0.9, extend="both")
    _save(figure, path)
    return Path(path)


def _matrix(
    axis: Axes, matrix: NDArray[np.float64], layout: TransitionLayout, title: str, limit: float
) -> Any:
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    short = {"observations": "obs", "actions": "act", "rewards": "r"}
    short |= {"next_observations": "next obs", "terminals": "t"}
    middles = [(where.start + where.stop - 1) / 2 for where in layout.columns.values()]
    names = [short[name] for name in layout.columns]
    axis.set_xticks(middles, names, fontsize=7, rotation=30)
    axis.set_yticks(middles, names, fontsize=7)
    axis.tick_params(length=0)
    for where in list(layout.columns.values())[1:]:
        axis.axhline(where.start - 0.5, color="black", linewidth=0.4)
        axis.axvline(where.start - 0.5, color="black", linewidth=0.4)
    axis.set_title(title, fontsize=9)
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
    panels = {"real": real, **samples}
    lines, columns = math.ceil(len(panels) / 4), min(len(panels), 4)
    figure = Figure(figsize=(0.6 + 3.2 * columns, 0.4 + 3.2 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    colours = [REAL, *_colours(samples)]
    for axis, colour, (name, each) in zip(axes, colours, panels.items(), strict=False):
        drawn = each.subset(draw(len(each), POINTS, 0))
        points = standardise(layout.pack(drawn), rows) @ plane
        axis.scatter(*points.T, s=4, color=colour, alpha=0.4, linewidths=0)
        axis.set_title(f"{name} ({len(drawn)} rows)", fontsize=9)
        axis.tick_params(labelsize=7)
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    figure.supxlabel(f"first principal component of the real rows ({shares[0]:.0%})", fontsize=9)
    figure.supylabel(f"second ({shares[1]:.0%})", fontsize=9)
    cloud = scaled @ plane
    low, high = np.quantile(cloud, [0.001, 0.999], axis=0)
    margin = 0.15 * (high - low)
    axes[0].set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes[0].set_ylim(low[1] - margin[1], high[1] + margin[1])
    _save(figure, path)
    return Path(path)


def plot_novelty(measures: Mapping[str, RowMeasures], path: str | os.PathLike[str]) -> Path:
    """Distances to the nearest training row, and the dynamics error against them, row by row.

    Args:
        measures: the measures of each set by name; ``held_out`` are real rows.
        path: the ``.png`` to write.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.quantile(np.concatenate([each.distances for each in measures.values()]), 0.995)
    some_error = False
    for colour, (name, each) in zip(_colours(measures), measures.items(), strict=True):
        label = "real, held out" if name == "held_out" else name
        distances = np.sort(each.distances)
        left.plot(distances, np.linspace(0, 1, len(distances)), color=colour, label=label, lw=1.6)
        shown = np.flatnonzero(np.isfinite(each.errors))
        if len(shown):
            some_error = True
            _cloud(right, each.distances[shown], each.errors[shown], colour, label)
    left.set_xlim(0, edges)
    left.set_ylim(0, 1)
    left.set_xlabel("distance to the nearest training row (standard deviations)")
    left.set_ylabel("share of the rows that are nearer")
    left.legend(fontsize=8, frameon=False, loc="best")
    left.grid(alpha=0.2)
    if some_error:
        right.set_xscale("log")
        right.set_yscale("log")
        right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.xaxis.set_major_formatter("{x:g}")
        right.xaxis.set_minor_formatter(NullFormatter())
        right.set_xlabel("distance to the nearest training row (standard deviations)")
        right.set_ylabel("dynamics error of the row (std$^2$)")
        right.set_title(
            f"dots: rows; discs: medians; errors under {FLOOR_ERROR:g} are drawn there", fontsize=9
        )
        right.legend(fontsize=8, frameon=False, loc="best")
        right.grid(alpha=0.2)
    else:
        right.set_axis_off()
        right.text(0.5, 0.5, "dynamics error: not defined here", ha="center", color=REAL)
    _save(figure, path)
    return Path(path)


def _cloud(
    axis: Axes,
    distances: NDArray[np.float64],
    errors: NDArray[np.float64],
    colour: str,
    label: str,
) -> None:
    chosen = draw(len(distances), POINTS // 3, 0)
    x, y = distances.clip(FLOOR_DISTANCE), errors.clip(FLOOR_ERROR)
    axis.scatter(x[chosen], y[chosen], s=3, color=colour, alpha=0.25, linewidths=0)
    axis.plot(np.median(x), np.median(y), "o", ms=9, mfc=colour, mec="white", label=label, zorder=3)


def _colours(names: Mapping[str, Any]) -> list[str]:
    """One for each set: grey for real rows, and the same for the same samples in every picture."""
    others = [name for name in names if name != "held_out"]
    palette = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(others)}
    return [palette.get(name, REAL) for name in names]

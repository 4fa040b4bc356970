"""Pictures of samples. Figures are drawn without pyplot, so that no display is ever needed."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from synther.diffusion.fidelity import Fidelity
from synther.transitions import TransitionLayout, Transitions

REAL, SYNTHETIC = "#7f8c8d", "#d35400"
GRID_COLUMNS = 6
BINS = 60


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
        real, synthetic: the rows, any number of either.
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
    figure.savefig(path, dpi=110)
    return Path(path)


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

"""Draw ``figs/row_quality.png`` and ``.pdf`` from what ``benchmarks/row_quality.py`` recorded.

One panel for each data set: the normalised score of agents by the rows that they learn from. A dot
is the mean over generators and agent seeds with its 95 % interval, small dots are the means of the
single generators, and the band is the interval of the agents that learn from real rows.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.patches import Patch
from scipy import stats

from synther.files.figures import BETTER, TEXT_WIDTH, Axes, Figure, in_style, save_figure
from synther.sweeps.algorithms import find_algorithm

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks/results/row_quality"
OUTPUT = Path(__file__).with_name("row_quality.png")
PANELS = {"halfcheetah-replay": "HalfCheetah replay", "hopper-demo-v0": "hopper-demo-v0"}
ARMS = {
    "real": "real rows",
    "2023-off-demo": "2023 coordinates",
    "new-off-demo": "new coordinates",
    "2023-ensemble-demo": "2023 coordinates,\nconsistent rows",
    "new-ensemble-demo": "new coordinates,\nconsistent rows (default)",
    "one-step-ensemble-demo": "real observations and\nactions, regressions",
    "new-off-larger": "new coordinates,\nlarger network",
    "new-ensemble-larger": "new, consistent,\nlarger network",
}
GREY = "#566573"
COLOURS = {"td3_bc": "#d35400", "iql": "#2471a3"}


def interval(scores: list[float]) -> tuple[float, float]:
    """The mean and half of its 95 % interval (Student's t)."""
    error = stats.sem(scores) * stats.t.ppf(0.975, len(scores) - 1)
    return float(np.mean(scores)), float(error)


def draw_panel(axis: Axes, data: str, records: list[dict], arms: list[str]) -> None:
    used = {record["algorithm"] for record in records}
    shifts = (-0.14, 0.14) if len(used) > 1 else (0.0, 0.0)
    for shift, (algorithm, colour) in zip(shifts, COLOURS.items(), strict=True):
        label = find_algorithm(algorithm).label
        for place, arm in enumerate(arms):
            name = f"{data}-{arm}"
            runs = [r for r in records if (r["arm"], r["algorithm"]) == (name, algorithm)]
            if not runs:
                if not any(record["arm"] == name for record in records):
                    where = axis.get_yaxis_transform()
                    axis.text(0.03, place, "not run", transform=where, va="center", color=GREY)
                continue
            mean, error = interval([score for run in runs for score in run["scores"]])
            at = place + shift
            axis.errorbar(mean, at, xerr=error, fmt="o", color=colour, capsize=3, label=label)
            if arm == "real":
                axis.axvspan(mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
            elif len(runs) > 1:
                means = [np.mean(run["scores"]) for run in runs]
                axis.plot(means, [at] * len(means), ".", color=colour, alpha=0.5, markersize=5)
    axis.set_title(PANELS[data])
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.margins(x=0.08)
    axis.set_xlim(left=0)
    axis.grid(axis="x", alpha=0.3)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args()
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    seen = {record["arm"].removeprefix(f"{data}-") for data in PANELS for record in records}
    arms = [arm for arm in ARMS if arm in seen]
    with in_style():
        height = 0.9 + 0.36 * len(arms)
        figure = Figure(figsize=(TEXT_WIDTH, height), layout="constrained")
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for axis, data in zip(axes, PANELS, strict=True):
            draw_panel(axis, data, records, arms)
        axes[0].set_yticks(range(len(arms)), [ARMS[arm] for arm in arms])
        figure.supxlabel(f"normalised score {BETTER}", fontsize=8)
        algorithms = {record["algorithm"] for record in records}
        colours = [colour for name, colour in COLOURS.items() if name in algorithms]
        found = {}
        for axis in axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                found.setdefault(label, handle)
        colour = colours[0] if len(colours) == 1 else GREY
        found["95 % interval of real rows"] = Patch(color=colour, alpha=0.25)
        figure.legend(found.values(), found, loc="outside upper center", ncols=3)
    save_figure(figure, OUTPUT)


if __name__ == "__main__":
    main()

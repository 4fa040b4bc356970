"""Draw ``figs/row_quality.png`` from what ``benchmarks/row_quality.py`` recorded.

One panel for each data set: the normalised score of agents by the rows that they learn from. A dot
is the mean over generators and agent seeds with its 95 % interval, small dots are the means of the
single generators, and the band is the interval of the agents that learn from real rows.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

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
ALGORITHMS = {"td3_bc": ("TD3+BC", "#d35400"), "iql": ("IQL", "#2471a3")}


def interval(scores: list[float]) -> tuple[float, float]:
    """The mean and half of its 95 % interval (Student's t)."""
    error = stats.sem(scores) * stats.t.ppf(0.975, len(scores) - 1)
    return float(np.mean(scores)), float(error)


def draw_panel(axis: Axes, data: str, records: list[dict], arms: list[str]) -> None:
    for shift, (algorithm, (label, colour)) in zip((-0.14, 0.14), ALGORITHMS.items(), strict=True):
        for place, arm in enumerate(arms):
            name = f"{data}-{arm}"
            runs = [r for r in records if (r["arm"], r["algorithm"]) == (name, algorithm)]
            if not runs:
                continue
            mean, error = interval([score for run in runs for score in run["scores"]])
            at = place + shift
            axis.errorbar(mean, at, xerr=error, fmt="o", color=colour, capsize=3, label=label)
            if arm == "real":
                axis.axvspan(mean - error, mean + error, color=colour, alpha=0.12, linewidth=0)
            elif len(runs) > 1:
                means = [np.mean(run["scores"]) for run in runs]
                axis.plot(means, [at] * len(means), ".", color=colour, alpha=0.5, markersize=5)
    axis.set_title(PANELS[data], fontsize=10)
    axis.set_xlabel("normalised score \N{RIGHTWARDS ARROW} better", fontsize=9)
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.margins(x=0.08)
    axis.set_xlim(left=0)
    axis.grid(axis="x", alpha=0.3)


def main() -> None:
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    seen = {record["arm"].removeprefix(f"{data}-") for data in PANELS for record in records}
    arms = [arm for arm in ARMS if arm in seen]
    figure = Figure(figsize=(8.0, 1.0 + 0.48 * len(arms)), layout="constrained")
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for axis, data in zip(axes, PANELS, strict=True):
        draw_panel(axis, data, records, arms)
    axes[0].set_yticks(range(len(arms)), [ARMS[arm] for arm in arms], fontsize=9)
    found = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), found, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(OUTPUT, dpi=150)


if __name__ == "__main__":
    main()

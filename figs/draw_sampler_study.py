"""Draw ``figs/sampler_study.png`` and ``.pdf`` from what ``benchmarks/sampler_study.py`` recorded.

A panel for each metric and model: the metric over the network calls of a sample, a mark for each
setting (mean over its seeds), and a band for the spread of the paper's sampler over its seeds.
Similarities are shown by what they lack to 1, so that less is better in every panel.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from synther.files.figures import (
    BETTER_DOWN,
    TEXT_WIDTH,
    Axes,
    Figure,
    FixedLocator,
    MaxNLocator,
    in_style,
    save_figure,
)

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDS = REPOSITORY / "benchmarks/results/sampler_study.jsonl"
OUTPUT = Path(__file__).with_name("sampler_study.png")
METRICS = {
    "marginal": "1 - marginal",
    "correlation": "1 - correlation",
    "wasserstein": "sliced Wasserstein",
    "dynamics_mse": "dynamics error (std$^2$)",
}
SIMILARITIES = ("marginal", "correlation")
TICKS = [base * factor for base in (1e-3, 1e-2, 1e-1, 1.0) for factor in (1, 2, 5)]
STYLES = {
    "heun_stochastic": ("stochastic Heun (paper)", "#566573", "o"),
    "heun_deterministic": ("Heun", "#2e86c1", "s"),
    "dpmpp_2m": ("DPM-Solver++(2M)", "#28b463", "^"),
    "dpmpp_3m": ("DPM-Solver++(3M)", "#7d3c98", "v"),
    "dpmpp_2m_sde": ("DPM-Solver++(2M) SDE", "#b7950b", "D"),
    "restart": ("Restart", "#d35400", "P"),
}


def value_of(record: dict, metric: str) -> float:
    return 1 - record[metric] if metric in SIMILARITIES else record[metric]


def means(records: list[dict], model: str, metric: str) -> dict[str, tuple[int, float, str]]:
    """Setting -> (network calls, mean over seeds, sampler)."""
    found: dict[str, list[dict]] = {}
    for record in records:
        if record["model"] == model and record[metric] is not None:
            found.setdefault(record["setting"], []).append(record)
    return {
        name: (
            each[0]["calls"],
            float(np.mean([value_of(one, metric) for one in each])),
            each[0]["preset"]["sampler"],
        )
        for name, each in found.items()
    }


def draw_panel(axis: Axes, records: list[dict], model: str, metric: str, fast: str) -> None:
    for name, (calls, value, sampler) in means(records, model, metric).items():
        _, colour, marker = STYLES[sampler]
        axis.plot(calls, value, marker, color=colour, markersize=4, alpha=0.75, markeredgewidth=0)
        if name == fast:
            axis.plot(calls, value, "o", markersize=8, markerfacecolor="none", color="black")
    chosen = [r for r in records if (r["setting"], r["model"]) == ("paper", model)]
    paper = np.array([value_of(record, metric) for record in chosen], float)
    spread = np.abs(paper - paper.mean()).max()
    axis.axhspan(paper.mean() - spread, paper.mean() + spread, color="#566573", alpha=0.25, lw=0)
    axis.set_xscale("log")
    axis.set_xticks([12, 25, 50, 100, 255], ["12", "25", "50", "100", "255"])
    axis.xaxis.set_minor_locator(FixedLocator([]))
    low, high = axis.get_ylim()
    if high < 4 * low:  # a logarithmic axis would have one tick
        axis.yaxis.set_major_locator(MaxNLocator(4))
        return
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(FixedLocator([tick for tick in TICKS if low < tick < high]))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(FixedLocator([]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fast", default="restart-12-3x2-bf16", help="the setting with the ring")
    arguments = parser.parse_args()
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    models = list(dict.fromkeys(record["model"] for record in records))
    with in_style():
        figure = Figure(figsize=(TEXT_WIDTH, 1.5 * len(models) + 0.8), layout="constrained")
        axes = figure.subplots(len(models), len(METRICS), squeeze=False)
        for row, model in enumerate(models):
            for column, (metric, label) in enumerate(METRICS.items()):
                draw_panel(axes[row, column], records, model, metric, arguments.fast)
                if row == 0:
                    axes[row, column].set_title(label)
            axes[row, 0].set_ylabel(model)
        figure.supxlabel("network calls a sample", fontsize=8)
        figure.supylabel(BETTER_DOWN, fontsize=8)
        used = {record["preset"]["sampler"] for record in records}
        marks: list[Line2D | Patch] = [
            Line2D([], [], marker=marker, color=colour, label=label, linestyle="", markersize=4)
            for name, (label, colour, marker) in STYLES.items()
            if name in used
        ]
        calls = next(each["calls"] for each in records if each["setting"] == arguments.fast)
        ring = f"ring: fast of that time, {calls} calls"
        marks.append(
            Line2D(
                [], [], marker="o", color="black", label=ring, linestyle="", markersize=8,
                markerfacecolor="none",
            )
        )  # fmt: skip
        marks.append(Patch(color="#566573", alpha=0.25, label="band: paper, spread over seeds"))
        figure.legend(handles=marks, loc="outside upper center", ncols=3)
    save_figure(figure, OUTPUT)


if __name__ == "__main__":
    main()

"""Draw ``figs/sampler_study.png`` from what ``benchmarks/sampler_study.py`` recorded.

A panel for each metric and model: the metric over the network calls of a sample, a mark for each
setting (mean over its seeds), and a band for the spread of the paper's sampler over its seeds.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDS = REPOSITORY / "benchmarks/results/sampler_study.jsonl"
OUTPUT = Path(__file__).with_name("sampler_study.png")
METRICS = {
    "marginal": "marginal",
    "correlation": "correlation",
    "wasserstein": "sliced Wasserstein",
    "dynamics_mse": "dynamics MSE",
}
LOGARITHMIC = ("wasserstein", "dynamics_mse")
STYLES = {
    "heun_stochastic": ("stochastic Heun", "#566573", "o"),
    "heun_deterministic": ("Heun", "#2e86c1", "s"),
    "dpmpp_2m": ("2M", "#28b463", "^"),
    "dpmpp_3m": ("3M", "#7d3c98", "v"),
    "dpmpp_2m_sde": ("2M, SDE", "#b7950b", "D"),
    "restart": ("restart", "#d35400", "P"),
}


def means(records: list[dict], model: str, metric: str) -> dict[str, tuple[int, float, str]]:
    """Setting -> (network calls, mean over seeds, sampler)."""
    found: dict[str, list[dict]] = {}
    for record in records:
        if record["model"] == model and record[metric] is not None:
            found.setdefault(record["setting"], []).append(record)
    return {
        name: (
            each[0]["calls"],
            float(np.mean([one[metric] for one in each])),
            each[0]["preset"]["sampler"],
        )
        for name, each in found.items()
    }


def draw_panel(axis: Axes, records: list[dict], model: str, metric: str, fast: str) -> None:
    for name, (calls, value, sampler) in means(records, model, metric).items():
        _, colour, marker = STYLES[sampler]
        axis.plot(calls, value, marker, color=colour, markersize=4, alpha=0.75)
        if name == fast:
            axis.plot(calls, value, "o", markersize=10, markerfacecolor="none", color="black")
    chosen = [r for r in records if (r["setting"], r["model"]) == ("paper", model)]
    paper = np.array([record[metric] for record in chosen], float)
    spread = np.abs(paper - paper.mean()).max()
    axis.axhspan(paper.mean() - spread, paper.mean() + spread, color="#566573", alpha=0.25, lw=0)
    axis.set_xscale("log")
    axis.set_xticks([12, 25, 50, 100, 255], ["12", "25", "50", "100", "255"])
    axis.minorticks_off()
    if metric in LOGARITHMIC:
        axis.set_yscale("log")
    axis.tick_params(which="both", labelsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fast", default="restart-12-3x2-bf16", help="ringed setting")
    arguments = parser.parse_args()
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    models = list(dict.fromkeys(record["model"] for record in records))
    figure = Figure(figsize=(2.7 * len(METRICS), 2.2 * len(models)), layout="constrained")
    axes = figure.subplots(len(models), len(METRICS), squeeze=False)
    for row, model in enumerate(models):
        for column, (metric, label) in enumerate(METRICS.items()):
            draw_panel(axes[row, column], records, model, metric, arguments.fast)
            if row == 0:
                axes[row, column].set_title(label, fontsize=9)
        axes[row, 0].set_ylabel(model, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("network calls a sample", fontsize=8)
    used = {record["preset"]["sampler"] for record in records}
    marks = [
        axes[0, 0].plot([], [], marker, color=colour, label=label)[0]
        for name, (label, colour, marker) in STYLES.items()
        if name in used
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.savefig(OUTPUT, dpi=110)


if __name__ == "__main__":
    main()

"""Draw ``figs/offline_learning.png`` from what ``benchmarks/offline_learning.py`` recorded.

One panel for each algorithm and data set: the normalised score over updates, mean over seeds with a
band of one standard error, learnt from the real rows and from SynthER's samples of them; dashed
for runs in float32, where the others are in bf16 and compiled.
"""

import itertools
import json
import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synther.runs.loggers import read_metrics

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks/results/offline_learning"
OUTPUT = Path(__file__).with_name("offline_learning.png")
COLOURS = {"real": "#566573", "synther": "#d35400"}
LABELS = {"real": "real rows", "synther": "SynthER's samples"}
STYLES = {"": "-", "-fp32": "--"}
NAME = re.compile(r"(?P<algorithm>[^-]+)-(?P<data>.+)-(?P<source>real|synther)(-fp32)?")


def curve(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Updates ``[T]`` and normalised scores ``[T, S]`` of a run."""
    seeds = json.loads((run / "result.json").read_text())["seeds"]
    keys = [f"eval_score/s{seed}" for seed in seeds]
    records = [each for each in read_metrics(run / "metrics.jsonl") if keys[0] in each]
    scores = np.array([[each[key] for key in keys] for each in records])
    return np.array([each["step"] for each in records]), scores


def draw_panel(axis: Axes, algorithm: str, data: str) -> None:
    for (source, colour), (suffix, style) in itertools.product(COLOURS.items(), STYLES.items()):
        run = RESULTS / f"{algorithm}-{data}-{source}{suffix}"
        if not (run / "result.json").exists():
            continue
        steps, scores = curve(run)
        mean = scores.mean(axis=1)
        error = scores.std(axis=1, ddof=1) / np.sqrt(scores.shape[1])
        label = LABELS[source] + suffix.replace("-", ", ")
        axis.plot(steps, mean, style, color=colour, label=label, marker="o", markersize=3)
        axis.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    if not axis.has_data():  # not finished yet
        axis.set_axis_off()
        return
    axis.set_title(f"{algorithm}, {data}", fontsize=10)
    axis.set_xlabel("updates", fontsize=8)
    axis.tick_params(labelsize=8)


def main() -> None:
    names = [each for path in RESULTS.iterdir() if (each := NAME.fullmatch(path.name))]
    algorithms = sorted({name["algorithm"] for name in names}, reverse=True)
    data_sets = sorted({name["data"] for name in names})
    figure = Figure(figsize=(3.3 * len(data_sets), 2.6 * len(algorithms)), layout="constrained")
    axes = figure.subplots(len(algorithms), len(data_sets), squeeze=False)
    for row, algorithm in enumerate(algorithms):
        axes[row, 0].set_ylabel("normalised score", fontsize=8)
        for column, data in enumerate(data_sets):
            draw_panel(axes[row, column], algorithm, data)
    handles = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=8,
        frameon=False,
    )  # fmt: skip
    figure.savefig(OUTPUT, dpi=110)


if __name__ == "__main__":
    main()

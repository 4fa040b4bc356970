"""Draw ``figs/offline_learning.png`` and ``.pdf`` from the records of the study of that name.

One panel for each algorithm and data set: the normalised score over updates, mean over seeds with a
band of one standard error, learnt from the real rows and from SynthER's samples of them; dashed
for runs in float32, where the others are in bf16 and compiled.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from synther.files.figures import (
    BETTER,
    TEXT_WIDTH,
    Axes,
    Figure,
    MaxNLocator,
    in_style,
    save_figure,
)
from synther.runs.loggers import read_metrics
from synther.sweeps.algorithms import find_algorithm

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks/results/offline_learning"
OUTPUT = Path(__file__).with_name("offline_learning.png")
COLOURS = {"real": "#566573", "synther": "#d35400"}
LABELS = {"real": "real rows", "synther": "SynthER's samples"}
STYLES = {"": "-", "-fp32": "--"}
ALGORITHMS = ("td3_bc", "iql", "cql", "edac")
DATA = {
    "hopper-5pct": "hopper 5 %",
    "hopper-15pct": "hopper 15 %",
    "hopper-demo-v0": "hopper",
    "halfcheetah-replay": "halfcheetah",
}
COLUMNS = 4


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
        axis.plot(steps, mean, style, color=colour, label=label, marker="o", markersize=2)
        axis.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    axis.set_title(f"{find_algorithm(algorithm).label}, {DATA[data]}")
    axis.xaxis.set_major_locator(MaxNLocator(3))


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args()
    panels = [
        (algorithm, data)
        for algorithm, data in itertools.product(ALGORITHMS, DATA)
        if list(RESULTS.glob(f"{algorithm}-{data}-*/result.json"))
    ]
    with in_style():
        lines = -(-len(panels) // COLUMNS)
        figure = Figure(figsize=(TEXT_WIDTH, 1.45 * lines + 0.4), layout="constrained")
        axes = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            draw_panel(axis, *panel)
        for unused in axes[len(panels) :]:
            unused.remove()
        figure.supylabel(f"normalised score {BETTER}", fontsize=8)
        figure.supxlabel("updates", fontsize=8)
        handles = {
            label: handle
            for axis in axes[: len(panels)]
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    save_figure(figure, OUTPUT)


if __name__ == "__main__":
    main()

"""Draw ``figs/online_learning.png`` and ``.pdf`` from the records of the study of that name.

One panel for each environment: the return of the deterministic policy over environment steps, mean
over seeds with a band of one standard error. With paths of ``progress.txt`` or ``metrics.jsonl``
files, or of folders that hold some, it draws those instead:

    python3 figs/draw_online_learning.py online_logs/ --output curves.png
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
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

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks/results/online_learning"
OUTPUT = Path(__file__).with_name("online_learning.png")
COLOURS = {"SAC": "#566573", "REDQ": "#2471a3", "SynthER": "#d35400"}

Curve = tuple[np.ndarray, np.ndarray]
"""Environment steps ``[T]`` and returns ``[T]``."""


def find(paths: Iterable[Path]) -> dict[str, dict[str, list[Curve]]]:
    """Environment -> agent -> its runs."""
    found: dict[str, dict[str, list[Curve]]] = defaultdict(lambda: defaultdict(list))
    for path in paths:
        files = path.rglob("metrics.jsonl") if path.is_dir() else [path.with_name("metrics.jsonl")]
        for file in sorted(files):
            settings = file.with_name("run.json")
            epochs = [each for each in read_metrics(file) if "AverageTestEpRet" in each]
            if settings.is_file() and epochs and not file.parent.name.startswith("previous-"):
                run = json.loads(settings.read_text(encoding="utf-8"))
                arm = file.parent.name.removesuffix(f"_{run['env']}_s{run['seed']}")
                steps = np.array([each["TotalEnvInteracts"] for each in epochs])
                returns = np.array([each["AverageTestEpRet"] for each in epochs])
                found[run["env"]][arm].append((steps, returns))
    return found


def draw_panel(axis: Axes, env: str, arms: dict[str, list[Curve]]) -> None:
    for arm, runs in sorted(arms.items()):
        length = min(len(steps) for steps, _ in runs)
        steps = runs[0][0][:length]
        returns = np.array([values[:length] for _, values in runs])
        mean = returns.mean(axis=0)
        colour = COLOURS.get(arm)
        (line,) = axis.plot(steps, mean, color=colour, marker="o", markersize=2, label=arm)
        if len(runs) > 1:
            error = returns.std(axis=0, ddof=1) / np.sqrt(len(runs))
            axis.fill_between(
                steps, mean - error, mean + error, color=line.get_color(), alpha=0.2, linewidth=0
            )
    counts = sorted({len(runs) for runs in arms.values()})
    seeds = " to ".join(map(str, {counts[0]: 0, counts[-1]: 0}))
    axis.set_title(f"{env}, {seeds} seed{'s' if counts[-1] > 1 else ''}")
    axis.set_xlabel("environment steps")
    axis.xaxis.set_major_locator(MaxNLocator(4))


def main() -> None:
    parser = argparse.ArgumentParser(description="Learning curves of online runs.")
    parser.add_argument(
        "paths", type=Path, nargs="*", default=[RESULTS], help="files of runs, or folders of runs"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT,
        help="the .png; a .pdf comes beside it (default: figs/online_learning.png)",
    )  # fmt: skip
    options = parser.parse_args()
    found = find(options.paths)
    if not found:
        parser.exit(1, f"no finished epoch of a run in {', '.join(map(str, options.paths))}\n")
    with in_style():
        width = max(TEXT_WIDTH, 2.0 * len(found))
        figure = Figure(figsize=(width, 2.2), layout="constrained")
        axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axis, (env, arms) in zip(axes, sorted(found.items()), strict=True):
            draw_panel(axis, env, arms)
        axes[0].set_ylabel(f"return {BETTER}")
        handles = {
            label: handle
            for axis in axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles, loc="outside upper center", ncols=6)
    save_figure(figure, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()

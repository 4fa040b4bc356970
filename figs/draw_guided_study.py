"""Draw ``figs/guided_study.png`` and ``.pdf`` from what ``benchmarks/guided_study.py`` recorded.

One panel for each task: the score of agents by the rows that they learn from, the mean over seeds
with its 95 % interval (Student's t), where there are three or more. The band is the interval of the
first control: offline the real rows alone, online SAC with as many updates and layer norm.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from synther.files.figures import BETTER, TEXT_WIDTH, Axes, Figure, in_style, save_figure
from synther.sweeps.algorithms import find_algorithm

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/guided_study"
OUTPUT = Path(__file__).with_name("guided_study.png")
CONTROL, PLAIN, GUIDED = "#566573", "#2471a3", "#d35400"
ARMS = {
    "offline": {
        "real": ("real rows", CONTROL),
        "SynthER-2023": ("SynthER, 2023 settings", PLAIN),
        "SynthER": ("SynthER", PLAIN),
        "SynthER-mixed": ("half real, half SynthER", PLAIN),
        "refreshed": ("SynthER, made anew", PLAIN),
        "return-w0": ("SynthER, equal network", PLAIN),
        "return-w1": ("high returns, w = 1", GUIDED),
        "return-w2": ("high returns, w = 2", GUIDED),
        "GTA": ("around real rows (GTA)", GUIDED),
        "PGD": ("guided to the policy (PGD)", GUIDED),
    },
    "online": {
        "SAC-20-LN": ("SAC, 20 updates, layer norm", CONTROL),
        "SAC": ("SAC", CONTROL),
        "SAC-20": ("SAC, 20 updates", CONTROL),
        "REDQ": ("REDQ", CONTROL),
        "SynthER-2023": ("SynthER, 2023 settings", PLAIN),
        "SynthER": ("SynthER", PLAIN),
        "SynthER-equal-width": ("SynthER, equal width", PLAIN),
        "PGR-random": ("PGR, uniform numbers", PLAIN),
        "PGR-curiosity": ("PGR, curiosity", GUIDED),
        "PGR-reward": ("PGR, reward", GUIDED),
    },
}
"""By kind and arm: its name, and the colour of controls, of samples, and of guided samples; the
first of a kind has the band."""
FEW = 2
"""So many values have no interval that could be drawn: it would be wider than the figure."""
LABELS = {"offline": "normalised score", "online": "return"}
ALGORITHMS = ("td3_bc", "iql")


def title_of(task: str, gap: str = " ") -> str:
    """``hopper-demo-v0-5-td3_bc`` -> ``hopper-demo-v0, 5 %, TD3+BC``, with ``gap`` before the
    algorithm; online, the environment."""
    data, _, algorithm = task.rpartition("-")
    if algorithm not in ALGORITHMS:
        return task
    name, _, share = data.rpartition("-")
    return f"{name}, {share} %,{gap}{find_algorithm(algorithm).label}"


def scores_of(kind: str) -> dict[str, dict[str, list[float]]]:
    """Scores of all seeds, by task and arm."""
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(RESULTS.glob(f"{kind}-*.json")):
        record = json.loads(path.read_text())
        of_task = found.setdefault(record["task"], {})
        of_task.setdefault(record["arm"], []).extend(record["scores"])
    return found


def draw_panel(
    axis: Axes, scores: dict[str, list[float]], arms: dict[str, tuple[str, str]]
) -> None:
    for place, (arm, (_, colour)) in enumerate(arms.items()):
        if arm not in scores:
            continue
        values = scores[arm]
        mean, error = float(np.mean(values)), 0.0
        if len(values) > FEW:
            error = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
        if place == 0:
            axis.axvspan(mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
        axis.errorbar(mean, place, xerr=error, fmt="o", color=colour, capsize=3, markersize=4)
        axis.plot(values, [place + 0.22] * len(values), ".", color=colour, alpha=0.4, markersize=3)
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.3)


def draw_kind(part: Any, kind: str, tasks: dict[str, dict[str, list[float]]]) -> None:
    arms = {
        arm: how for arm, how in ARMS[kind].items() if any(arm in each for each in tasks.values())
    }
    axes = np.atleast_1d(part.subplots(1, len(tasks), sharey=True))
    for axis, (task, scores) in zip(axes, tasks.items(), strict=True):
        draw_panel(axis, scores, arms)
        axis.set_title(title_of(task, " " if len(tasks) == 1 else "\n"))
    axes[0].set_yticks(range(len(arms)), [name for name, _ in arms.values()])
    part.supxlabel(f"{LABELS[kind]} {BETTER}", fontsize=8)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args()
    kinds = {kind: found for kind in ARMS if (found := scores_of(kind))}
    if not kinds:
        raise SystemExit(f"{RESULTS}: no results yet; benchmarks/guided_study.py makes them")
    heights = [0.8 + 0.22 * len(ARMS[kind]) for kind in kinds]
    with in_style():
        figure = Figure(figsize=(TEXT_WIDTH, sum(heights)), layout="constrained")
        parts = np.atleast_1d(figure.subfigures(len(kinds), 1, height_ratios=heights))
        for part, (kind, tasks) in zip(parts, kinds.items(), strict=True):
            draw_kind(part, kind, tasks)
    save_figure(figure, OUTPUT)


if __name__ == "__main__":
    main()

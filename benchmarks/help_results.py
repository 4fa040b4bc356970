"""What the results of ``when_does_it_help.py`` say: intervals, words, a table and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from offline_learning import REPOSITORY
from rich.table import Table
from row_quality_results import difference
from scipy import stats

from synther.advise.advice import ROWS
from synther.files.figures import BETTER, TEXT_WIDTH, Axes, Figure, FixedLocator, in_style

RESULTS = REPOSITORY / "benchmarks/results/when_does_it_help"
FIGURE = REPOSITORY / "figs/when_does_it_help.png"
KINDS = {"new": ("#2471a3", 0.92), "2023": ("#7f8c8d", 1.0), "mixed": ("#d35400", 1.08)}
"""By kind of rows: its colour in the figure, and where it stands beside its place."""
TASKS = {"halfcheetah": "HC", "hopper": "Ho", "walker2d": "Wa"}
"""Letters of tasks in the figure."""
SPELLED = {
    "td3_bc": "TD3+BC",
    "td3_bc-wide": "TD3+BC, 3 x 512",
    "td3_bc-paper": "TD3+BC, the paper's sizes",
}
"""Names of algorithms that are no abbreviation in capitals."""
PANELS_BESIDE = 3
"""In a row of the figure."""
LAST = 3
"""Evaluations that a score is the mean of."""
FLAT_POINTS = 1.0
"""A curve that gains less than this between its last evaluations and those before is flat."""


def trend(curves: Sequence[NDArray[np.float64]]) -> str:
    """How learning curves ``[E, S]`` end: ``flat``, ``rising``, ``falling``, or ``unclear``, where
    they move by a point or more and the seeds do not agree whether they do."""
    ends = [c[-LAST:].mean(axis=0) - c[-2 * LAST : -LAST].mean(axis=0) for c in curves]
    gains = np.concatenate(ends)
    if abs(gains.mean()) < FLAT_POINTS:
        return "flat"
    interval = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    if interval.low <= 0 <= interval.high:
        return "unclear"
    return "rising" if gains.mean() > 0 else "falling"


def is_flat(curves: Sequence[NDArray[np.float64]]) -> bool:
    """Whether they count as flat: they gain less than a point, or no more than chance."""
    return trend(curves) in ("flat", "unclear")


def verdict(low: float, high: float) -> str:
    """The pre-registered word for an interval of the gain."""
    return "help" if low > 0 else "harm" if high < 0 else "neither"


def are_apart(replicates: Sequence[Sequence[Sequence[float]]]) -> bool:
    """Whether the gains of two replicates, each the scores on samples and on real rows, differ by
    more than their seeds explain: the 95 % interval of the difference does not hold 0 (Welch's t
    for four means). Where they do, an interval over the seeds is too narrow for another choice of
    rows and another model. More than two are compared first with last, one with nothing."""
    if len(replicates) < 2:
        return False
    groups = [np.array(scores) for side in (replicates[0], replicates[-1]) for scores in side]
    errors = np.array([scores.var(ddof=1) / scores.size for scores in groups])
    first_new, first_real, last_new, last_real = (scores.mean() for scores in groups)
    gap = abs((first_new - first_real) - (last_new - last_real))
    if not errors.sum():
        return bool(gap > 0)
    freedoms = np.array([scores.size - 1 for scores in groups])
    freedom = errors.sum() ** 2 / (errors**2 / freedoms).sum()
    return bool(gap > stats.t.ppf(0.975, freedom) * np.sqrt(errors.sum()))


def cells() -> list[dict[str, Any]]:
    """The gain of each cell whose results are there, with its interval and its features."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))
               if not path.name.startswith("features-")]  # fmt: skip
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in results:
        key = (each["data"], each["share"], each["algorithm"], each["kind"])
        groups.setdefault(key, []).append(each)
    found = []
    for (data, share, algorithm, kind), runs in groups.items():
        real = groups.get((data, share, algorithm, "real"))
        # A replicate counts where both of its sides are there.
        both = sorted(
            {each["replicate"] for each in runs} & {each["replicate"] for each in real or ()}
        )
        if kind == "real" or not real or not both:
            continue
        ours, theirs = ([s for run in side if run["replicate"] in both for s in run["scores"]]
                        for side in (runs, real))  # fmt: skip
        gain, low, high = difference(ours, theirs)
        by_replicate = [[run["scores"] for side in (runs, real) for run in side
                         if run["replicate"] == number] for number in both]  # fmt: skip
        if np.isnan([low, high]).any():  # every seed has one and the same score
            low = high = gain
        features = json.loads((RESULTS / f"features-{data}-{share}pct-r{both[0]}.json").read_text())
        curves = [np.array(run["curve"]) for run in real if run["replicate"] in both]
        behaviour = features.pop("behaviour")
        found.append({
            "data": data, "share": share, "algorithm": algorithm, "kind": kind,
            # As they are: rounded ones could contradict the word.
            "gain": gain, "low": low, "high": high,
            "verdict": verdict(low, high), "real": float(np.mean(theirs)),
            "behaviour": behaviour["score"], "seeds": len(ours), "replicates": len(both),
            "gains": [float(np.mean(new) - np.mean(old)) for new, old in by_replicate],
            "apart": are_apart(by_replicate),
            "flat": is_flat(curves), "trend": trend(curves),
            "features": features,
        })  # fmt: skip
    return found


def table(found: Sequence[dict[str, Any]]) -> Table:
    """A row for each cell, and how often each word was given."""
    counts = {word: sum(each["verdict"] == word for each in found)
              for word in ("help", "harm", "neither")}  # fmt: skip
    said = ", ".join(f"{word} {count}" for word, count in counts.items())
    shown = Table(title=f"Gain in normalised score over real rows; of {len(found)} cells: {said}")
    for heading in ("data", "rows", "algorithm", "kind", "behaviour", "real", "gain", "95 %", ""):
        shown.add_column(heading)
    for each in found:
        rows, score = each["features"]["rows"], each["behaviour"]
        shown.add_row(
            each["data"], f"{rows} ({each['share']} %)", each["algorithm"], each["kind"],
            "" if score is None else f"{score:.1f}",
            _real(each), f"{each['gain']:+.1f}",
            f"{each['low']:+.1f} to {each['high']:+.1f}", each["verdict"],
        )  # fmt: skip
    return shown


COLUMNS = {"new": "samples alone", "mixed": "half real, half samples", "2023": "2023 settings"}
"""Of the page, by kind of rows."""
HEAD = """# When does it help?

`python3 benchmarks/when_does_it_help.py`: gain in normalised score over the same real rows alone,
with its 95 % interval over the seeds; **help** and **harm** are bold. A cell is one choice of rows
(at random) and one model; where there are two, the gain of each is in square brackets, with an
asterisk where they differ by more than their seeds explain, so that the interval is too narrow for
a third. *Rising*, *falling*: the curve on the real rows was not flat at its end; *unclear*: it
moved by a point or more, and seeds do not agree whether it does.
"""


def page(found: Sequence[dict[str, Any]]) -> str:
    """The same in Markdown: a row for each algorithm on some rows of a data set."""
    rows: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for each in sorted(found, key=lambda one: (one["algorithm"], one["share"], one["data"])):
        key = (each["algorithm"], each["share"], each["data"])
        rows.setdefault(key, {})[each["kind"]] = each
    kinds = [kind for kind in COLUMNS if any(kind in cell for cell in rows.values())]
    titles = " | ".join(COLUMNS[kind] for kind in kinds)
    lines = [
        HEAD,
        f"| data, rows | algorithm | behaviour | real rows | {titles} |",
        "|---" * (4 + len(kinds)) + "|",
    ]
    for (algorithm, share, data), cell in rows.items():
        one = next(iter(cell.values()))
        behaviour = "" if one["behaviour"] is None else f"{one['behaviour']:.1f}"
        gains = " | ".join(_gain(cell[kind]) if kind in cell else "" for kind in kinds)
        count = f"{one['features']['rows']:,}".replace(",", " ")
        name = spelled(algorithm)
        lines.append(
            f"| {data}, {count} ({share} %) | {name} | {behaviour} | {_real(one)} | {gains} |"
        )
    return "\n".join(lines) + "\n"


def _real(cell: dict[str, Any]) -> str:
    return f"{cell['real']:.1f}{'' if cell['trend'] == 'flat' else ', ' + cell['trend']}"


def _gain(cell: dict[str, Any]) -> str:
    text = f"{cell['gain']:+.1f} ({cell['low']:.1f} to {cell['high']:.1f})"
    text = text if cell["verdict"] == "neither" else f"**{text}**"
    if cell["replicates"] == 1:
        return text
    return f"{text} [{', '.join(f'{gain:+.1f}' for gain in cell['gains'])}]{'*' * cell['apart']}"


def family(data: str) -> str:
    """The kind of data by which the figure is cut into panels."""
    task, _, kind = data.partition("-")
    return "maze" if task == "maze2d" else kind.replace("-", " ")


def figure(found: Sequence[dict[str, Any]], algorithms: Sequence[str]) -> Figure:
    """Gain against rows per column: a panel for each kind of data and each of ``algorithms`` on it,
    a colour for each kind of rows, bars for the 95 % intervals, letters for the task, and faint
    points where the curve on real rows is not flat. Each panel has its own scale of gains."""
    panels: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for each in found:
        place = family(each["data"]), algorithms.index(each["algorithm"])
        panels.setdefault(place, []).append(each)
    columns = min(len(panels), PANELS_BESIDE)
    rows = -(-len(panels) // columns)
    with in_style():
        drawn = Figure(figsize=(TEXT_WIDTH, 0.5 + 1.9 * rows), layout="constrained")
        axes = drawn.subplots(rows, columns, sharex=True, squeeze=False)
        known: dict[str, Any] = {}
        for ((kind, number), inside), axis in zip(sorted(panels.items()), axes.flat, strict=False):
            known |= _draw_panel(axis, inside)
            axis.set_title(f"{kind}, {spelled(algorithms[number])}")
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        axes[0, 0].set_xlim(10, 10_000)
        axes[0, 0].xaxis.set_major_locator(FixedLocator([10, 100, 1_000, 10_000]))
        drawn.supylabel(f"gain over real rows {BETTER}", fontsize=8)
        drawn.supxlabel("rows per column", fontsize=8)
        drawn.legend(known.values(), known, loc="outside upper center", ncols=len(known))
    return drawn


def spelled(algorithm: str) -> str:
    """Its name for people."""
    return SPELLED.get(algorithm, algorithm.upper())


def _draw_panel(axis: Axes, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Draw the cells of a panel; the handles of what is in it, by their names."""
    known = {}
    for each in found:
        colour, shift = KINDS[each["kind"]]
        at = each["features"]["rows"] / each["features"]["columns"] * shift
        known[ROWS[each["kind"]]] = axis.errorbar(
            at, each["gain"], yerr=[[each["gain"] - each["low"]], [each["high"] - each["gain"]]],
            capsize=2, fmt="o", color=colour, markersize=4, alpha=1.0 if each["flat"] else 0.4,
        )  # fmt: skip
        if each["kind"] == "new":
            axis.annotate(
                TASKS.get(each["data"].split("-")[0], ""), (at, each["gain"]), xytext=(-3, 0),
                textcoords="offset points", ha="right", va="center", fontsize=6,
            )  # fmt: skip
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xscale("log")
    axis.grid(alpha=0.3)
    return known

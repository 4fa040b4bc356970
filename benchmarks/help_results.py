"""What the results of ``when_does_it_help.py`` say: intervals, words, a table and a figure."""

from __future__ import annotations

import itertools
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
from synther.sweeps.algorithms import find_algorithm

RESULTS = REPOSITORY / "benchmarks/results/when_does_it_help"
FIGURE = REPOSITORY / "figs/when_does_it_help.png"
README = REPOSITORY / "README.md"
START, END = (f"<!-- --8<-- [{end}:cells] -->\n" for end in ("start", "end"))
"""What stands before and after the README's table."""
SHARES_IN_README = (2, 15)
KINDS = {"new": ("#2471a3", 0.92), "2023": ("#7f8c8d", 1.0), "mixed": ("#d35400", 1.08)}
"""By kind of rows: its colour in the figure, and where it stands beside its place."""
TASKS = {"halfcheetah": ("HalfCheetah", "s"), "hopper": ("Hopper", "o"),
         "walker2d": ("Walker2d", "^"), "maze2d": ("maze2d", "D")}  # fmt: skip
"""Names of tasks in the figure, and their marks."""
FAMILIES = ("medium replay", "medium", "random", "medium expert", "maze")
"""Kinds of data, in the figure's order."""
SIZES = {"": "", "wide": ", 3 x 512", "paper": ", the paper's sizes"}
"""For people, by what stands behind an algorithm's name."""
PANELS_BESIDE = 2
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
    """Whether the gains of any two replicates, each the scores on samples and on real rows, differ
    by more than their seeds explain: the interval of the difference does not hold 0 (Welch's t for
    four means; 95 % of all the pairs together, by Bonferroni). Where they do, an interval over the
    seeds is too narrow for another choice of rows and another model."""
    pairs = [*itertools.combinations(replicates, 2)]
    return any(_differ(*one, *other, level=0.05 / len(pairs)) for one, other in pairs)


def _differ(
    new: Sequence[float],
    real: Sequence[float],
    other_new: Sequence[float],
    other_real: Sequence[float],
    level: float,
) -> bool:
    groups = [np.array(scores) for scores in (new, real, other_new, other_real)]
    errors = np.array([scores.var(ddof=1) / scores.size for scores in groups])
    gap = abs(np.dot([1, -1, -1, 1], [scores.mean() for scores in groups]))
    if not errors.sum():
        return bool(gap > 0)
    freedoms = np.array([scores.size - 1 for scores in groups])
    freedom = errors.sum() ** 2 / (errors**2 / freedoms).sum()
    return bool(gap > stats.t.ppf(1 - level / 2, freedom) * np.sqrt(errors.sum()))


def over_replicates(gains: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean gain in which each replicate is one number (Student's t), so
    that it holds the choice of the rows and the model; None of fewer than three."""
    if len(gains) < 3:
        return None
    interval = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


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
        real = groups.get((data, share, algorithm, "real"), [])
        new, old = ({run["replicate"]: run["scores"] for run in side} for side in (runs, real))
        both = sorted(new.keys() & old.keys())  # a replicate counts with both of its sides
        if kind == "real" or not both:
            continue
        pairs = [(new[number], old[number]) for number in both]
        ours, theirs = map(np.concatenate, zip(*pairs, strict=True))
        gain, low, high = difference(ours, theirs)
        if np.isnan([low, high]).any():  # every seed has one and the same score
            low = high = gain
        features = json.loads((RESULTS / f"features-{data}-{share}pct-r{both[0]}.json").read_text())
        gains = [float(np.mean(on_samples) - np.mean(on_real)) for on_samples, on_real in pairs]
        curves = [np.array(run["curve"]) for run in real if run["replicate"] in both]
        behaviour = features.pop("behaviour")
        found.append({
            "data": data, "share": share, "algorithm": algorithm, "kind": kind,
            # As they are: rounded ones could contradict the word.
            "gain": gain, "low": low, "high": high,
            "verdict": verdict(low, high), "real": float(np.mean(theirs)),
            "behaviour": behaviour["score"], "seeds": len(ours), "replicates": len(pairs),
            "gains": gains, "apart": are_apart(pairs),
            "over_replicates": over_replicates(gains),
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
(at random) and one model; where there are more, the gain of each is in square brackets, with an
asterisk where they differ by more than their seeds explain, so that the interval is too narrow for
another one; of three or more also the interval in which each is one number. *Rising*, *falling*:
the curve on the real rows was not flat at its end; *unclear*: it moved by a point or more, and
seeds do not agree whether it does.
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
        f"{HEAD}\n{START}| data, rows | algorithm | behaviour | real rows | {titles} |",
        "|---" * (4 + len(kinds)) + "|",
    ]
    for (algorithm, share, data), cell in rows.items():
        one = max(cell.values(), key=lambda each: each["replicates"])  # the most real rows
        gains = " | ".join(_gain(cell[kind]) if kind in cell else "" for kind in kinds)
        count = f"{one['features']['rows']:,}".replace(",", " ")
        name = spelled(algorithm)
        lines.append(
            f"| {data}, {count} ({share} %) | {name} | {_behaviour(one)} | {_real(one)} | {gains} |"
        )
    return "\n".join(lines) + f"\n{END}"


def with_summary(readme: str, found: Sequence[dict[str, Any]]) -> str:
    """The text of the README with TD3+BC's gains in its table, a data set a row, those of a kind
    together.

    Raises:
        ValueError: the README has no place for it.
    """
    chosen: dict[tuple[int, str], dict[tuple[int, str], dict[str, Any]]] = {}
    for each in found:
        if each["algorithm"] == "td3_bc" and each["share"] in SHARES_IN_README:
            row = FAMILIES.index(family(each["data"])), each["data"]
            chosen.setdefault(row, {})[each["share"], each["kind"]] = each
    shares = " | ".join(f"{share} % of the rows: alone | half and half"
                        for share in SHARES_IN_README)  # fmt: skip
    lines = [f"| data, behaviour's score | {shares} |", "|---" * 5 + "|"]
    for (_, data), cells_of_data in sorted(chosen.items()):
        task, _, kind = data.partition("-")
        score = _behaviour(next(iter(cells_of_data.values())))
        wanted = itertools.product(SHARES_IN_README, ("new", "mixed"))
        gains = " | ".join(_short(cells_of_data.get(place)) for place in wanted)
        lines.append(f"| {TASKS[task][0]} {kind}, {score} | {gains} |")
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"the README has no place for the table, from {START!r} to {END!r}")
    return "".join([before, START, "\n".join(lines), "\n", END, after])


def _behaviour(cell: dict[str, Any]) -> str:
    return "" if cell["behaviour"] is None else f"{cell['behaviour']:.1f}"


def _short(cell: dict[str, Any] | None) -> str:
    """The gain with the number of its replicates, where there are more than one."""
    if cell is None:
        return ""
    return _interval(cell) + (f" [{cell['replicates']}]" if cell["replicates"] > 1 else "")


def _real(cell: dict[str, Any]) -> str:
    return f"{cell['real']:.1f}{'' if cell['trend'] == 'flat' else ', ' + cell['trend']}"


def _interval(cell: dict[str, Any]) -> str:
    text = f"{cell['gain']:+.1f} ({cell['low']:.1f} to {cell['high']:.1f})"
    return text if cell["verdict"] == "neither" else f"**{text}**"


def _gain(cell: dict[str, Any]) -> str:
    text = _interval(cell)
    if cell["replicates"] == 1:
        return text
    each = ", ".join(f"{gain:+.1f}" for gain in cell["gains"])
    if (over := cell["over_replicates"]) is not None:
        each += f": {over[0]:.1f} to {over[1]:.1f}"
    return f"{text} [{each}]{'*' * cell['apart']}"


def family(data: str) -> str:
    """The kind of data by which the figure is cut into panels."""
    task, _, kind = data.partition("-")
    return "maze" if task == "maze2d" else kind.replace("-", " ")


def figure(found: Sequence[dict[str, Any]], algorithms: Sequence[str]) -> Figure:
    """Gain against rows per column: a panel for each kind of data and each of ``algorithms`` on it,
    a colour for each kind of rows, a mark for each task, bars for the 95 % intervals, lines between
    the shares of a data set, and hollow marks where the curve on real rows is not flat. Each panel
    has its own scale of gains."""
    panels: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for each in found:
        place = algorithms.index(each["algorithm"]), FAMILIES.index(family(each["data"]))
        panels.setdefault(place, []).append(each)
    columns = min(len(panels), PANELS_BESIDE)
    rows = -(-len(panels) // columns)
    with in_style():
        drawn = Figure(figsize=(TEXT_WIDTH, 0.5 + 1.9 * rows), layout="constrained")
        axes = drawn.subplots(rows, columns, sharex=True, squeeze=False)
        known: dict[str, Any] = {}
        for ((number, place), inside), axis in zip(sorted(panels.items()), axes.flat, strict=False):
            known |= _draw_panel(axis, inside)
            axis.set_title(f"{FAMILIES[place]}, {spelled(algorithms[number])}")
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        axes[0, 0].set_xlim(10, 10_000)
        axes[0, 0].xaxis.set_major_locator(FixedLocator([10, 100, 1_000, 10_000]))
        drawn.supylabel(f"gain over real rows {BETTER}", fontsize=8)
        drawn.supxlabel("rows per column", fontsize=8)
        drawn.legend(known.values(), known, loc="outside upper center", ncols=-(-len(known) // 2))
    return drawn


def spelled(algorithm: str) -> str:
    """Its name for people."""
    name, _, size = algorithm.partition("-")
    return find_algorithm(name).label + SIZES[size]


def _draw_panel(axis: Axes, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Draw the cells of a panel; the handles of what is in it, by their names, kinds of rows before
    tasks."""
    curves: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in sorted(found, key=lambda one: one["share"]):
        curves.setdefault((each["data"], each["kind"]), []).append(each)
    kinds: dict[str, Any] = {}
    tasks: dict[str, Any] = {}
    for (data, kind), cells_of_curve in curves.items():
        colour, shift = KINDS[kind]
        name, mark = TASKS[data.split("-")[0]]
        at = [each["features"]["rows"] / each["features"]["columns"] * shift
              for each in cells_of_curve]  # fmt: skip
        gains = [each["gain"] for each in cells_of_curve]
        (kinds[ROWS[kind]],) = axis.plot(at, gains, color=colour, linewidth=0.8, alpha=0.6)
        for place, each in zip(at, cells_of_curve, strict=True):
            axis.errorbar(
                place, each["gain"], capsize=2, fmt=mark, color=colour, markersize=4, linewidth=0.8,
                yerr=[[each["gain"] - each["low"]], [each["high"] - each["gain"]]],
                markerfacecolor=colour if each["flat"] else "white",
            )  # fmt: skip
        (tasks[name],) = axis.plot([], [], mark, color="black", markersize=4)
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xscale("log")
    axis.grid(alpha=0.3)
    return kinds | tasks

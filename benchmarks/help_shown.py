"""How the results of ``when_does_it_help.py`` are shown: tables, a page and a figure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from help_results import REPOSITORY
from rich.table import Table

from synther.advise.advice import ROWS
from synther.files.figures import BETTER, TEXT_WIDTH, Axes, Figure, FixedLocator, in_style
from synther.sweeps.algorithms import find_algorithm

FIGURE = REPOSITORY / "figs/when_does_it_help.png"
README = REPOSITORY / "README.md"
START, END, BEST_START, BEST_END = (
    f"<!-- --8<-- [{end}:{name}] -->\n" for name in ("cells", "best") for end in ("start", "end")
)
"""What stands before and after tables that pages take over, the README's among them."""
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


def table(found: Sequence[dict[str, Any]]) -> Table:
    """A row for each cell, and how often each word was given."""
    counts = {word: sum(each["verdict"] == word for each in found)
              for word in ("help", "harm", "neither")}  # fmt: skip
    said = ", ".join(f"{word} {count}" for word, count in counts.items())
    shown = Table(title=f"Gain in normalised score over real rows; of {len(found)} cells: {said}")
    for heading in ("data", "rows", "algorithm", "kind", "behaviour", "real", "gain", "95 %", ""):
        shown.add_column(heading)
    for each in found:
        rows = f"{each['features']['rows']} ({each['share']} %)"
        shown.add_row(
            each["data"], rows, each["algorithm"], each["kind"],
            _behaviour(each), _real(each), f"{each['gain']:+.1f}",
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
another one; of three or more also the interval in which each is one number. Choices of all rows
are the same rows, with another model and other agents. *Rising*, *falling*: the curve on the real
rows was not flat at its end; *unclear*: it moved by a point or more, and seeds do not agree whether
it does.
"""
BEST_HEAD = "## By each agent's best evaluation\n"
BEST_SAID = """
The same if the score of an agent is its best of ten evaluations, in place of the mean of the last
three. It was not registered, but added when curves on few rows had been seen to fall. The best of
ten is a matter of luck, too, for agents whose evaluations differ much.
"""


def page(found: Sequence[dict[str, Any]]) -> str:
    """The same in Markdown: a row for each algorithm on some rows of a data set."""
    rows: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for each in sorted(found, key=lambda one: (one["algorithm"], one["share"], one["data"])):
        key = (each["algorithm"], each["share"], each["data"])
        rows.setdefault(key, {})[each["kind"]] = each
    kinds = [kind for kind in COLUMNS if any(kind in cell for cell in rows.values())]
    titles = " | ".join(COLUMNS[kind] for kind in kinds)
    registered = [
        f"| data, rows | algorithm | behaviour | real rows | {titles} |",
        "|---" * (4 + len(kinds)) + "|",
    ]
    best = [f"| data, rows | algorithm | {titles} |", "|---" * (2 + len(kinds)) + "|"]
    for (algorithm, share, data), cell in rows.items():
        one = max(cell.values(), key=lambda each: each["replicates"])  # the most real rows
        count = f"{one['features']['rows']:,}".replace(",", " ")
        start = f"| {data}, {count} ({share} %) | {spelled(algorithm)} |"
        gains = " | ".join(_gain(cell[kind]) if kind in cell else "" for kind in kinds)
        registered.append(f"{start} {_behaviour(one)} | {_real(one)} | {gains} |")
        gains = " | ".join(_interval(cell[kind]["at_best"]) if kind in cell else ""
                           for kind in kinds)  # fmt: skip
        best.append(f"{start} {gains} |")
    first = _between(START, registered, END)
    second = _between(BEST_START, [BEST_SAID, *best], BEST_END)
    return f"{HEAD}\n{first}\n{BEST_HEAD}\n{second}"


def _between(start: str, lines: Sequence[str], end: str) -> str:
    return start + "\n".join(lines) + "\n" + end


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
    return before + _between(START, lines, END) + after


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
    gain = round(cell["gain"], 1) + 0.0  # no -0.0
    text = f"{gain:+.1f} ({cell['low']:.1f} to {cell['high']:.1f})"
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
        for axis in axes.flat[len(panels) - columns : len(panels)]:
            axis.tick_params(labelbottom=True)  # the lowest of a column need not be in the last row
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

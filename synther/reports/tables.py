"""A report's tables show, for each task and method, mean and standard error over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from synther.reports.experiments import difference
from synther.reports.published import When, published
from synther.reports.runs import Measure, Run, Runs
from synther.reports.statistics import (
    Estimate,
    estimate,
    improvement,
    interquartile_mean,
    mean,
    mean_and_error,
    optimality_gap,
)

NOTHING = "-"
PARTIAL = "*"
MIXED = "†"
_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "±": r"$\pm$", "†": r"$\dagger$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    numbers: bool = True  # whether the columns after the first hold numbers

    def markdown(self) -> str:
        def line(cells: Iterable[str]) -> str:
            return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

        rule = "|---|" + ("---:|" if self.numbers else "---|") * (len(self.header) - 1)
        lines = [f"## {self.title}", "", line(self.header), rule, *map(line, self.rows)]
        return "\n".join([*lines, *(("", self.note) if self.note else ())]) + "\n"

    def latex(self) -> str:
        """A ``tabular`` in a ``table``; it needs the package booktabs."""

        def line(cells: Iterable[str]) -> str:
            return " & ".join(map(latex_escaped, cells)) + r" \\"

        caption = f"{self.title}. {self.note}" if self.note else f"{self.title}."
        return "\n".join(
            [
                r"\begin{table}[t]",
                r"\centering",
                rf"\caption{{{latex_escaped(caption)}}}",
                rf"\begin{{tabular}}{{l{('r' if self.numbers else 'l') * (len(self.header) - 1)}}}",
                r"\toprule",
                line(self.header),
                r"\midrule",
                *map(line, self.rows),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def latex_escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_ESCAPES.get(each, each) for each in text)


@dataclass(frozen=True)
class Group:
    """Runs that one table can hold: they have one measure, and all are offline or all online."""

    online: bool
    measure: Measure
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        unit = "normalised score" if self.measure == "score" else "return"
        return f"{'Online' if self.online else 'Offline'}, {unit}"

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(run.task for run in self.runs))

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(sorted(run.method for run in self.runs)))

    def of(self, task: str, method: str) -> list[Run]:
        return [run for run in self.runs if (run.task, run.method) == (task, method)]


def groups_of(runs: Runs) -> list[Group]:
    """The finished runs in groups."""
    keys = sorted({(run.online, run.measure) for run in runs.finished})
    return [
        Group(*key, tuple(run for run in runs.finished if (run.online, run.measure) == key))
        for key in keys
    ]


def scores_table(group: Group, runs: Runs, when: When) -> Table:
    """Tasks by methods, and published numbers beside the methods that they are of."""
    columns: list[tuple[str, bool]] = []
    scored = group.measure == "score"  # as the published numbers are
    for method in group.methods:
        columns.append((method, False))
        if scored and any(published(task, method, when) for task in group.tasks):
            columns.append((method, True))
    unfinished = {(each.task, each.method) for each in runs.unfinished}
    mixed = mixed_cells(group)
    rows = []
    for task in group.tasks:
        cells = []
        for method, is_published in columns:
            found = [getattr(run, when) for run in group.of(task, method)]
            if is_published:
                number = published(task, method, when)
                cells.append(f"{number[0]:.1f} ± {number[1]:.1f}" if number else NOTHING)
            else:
                mark = MIXED if (task, method) in mixed else ""
                mark += PARTIAL if (task, method) in unfinished else ""
                cells.append(cell(found) + mark)
        rows.append((task, *cells))
    if len(group.tasks) > 1 and group.measure == "score":
        rows.append(("mean of tasks", *(_average(group, when, *each) for each in columns)))
    counts = sorted({len(group.of(t, m)) for t in group.tasks for m in group.methods} - {0})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    note = f"Mean ± standard error of {seeds} seed{'s' if counts[-1] > 1 else ''}"
    if counts[0] != counts[-1]:
        note += " (as many as summary.json lists)"
    if any(cell.endswith(PARTIAL) for row in rows for cell in row):
        note += f"; {PARTIAL}: without its unfinished runs, listed below"
    if mixed:
        each = [f"{method} on {task}: {what}" for (task, method), what in mixed.items()]
        note += f"; {MIXED}: of runs whose settings differ ({' | '.join(each)})"
    title = f"{group.name}, {when} evaluation"
    names = [
        f"{method} (published)" if is_published else method for method, is_published in columns
    ]
    return Table(title, ("", *names), tuple(rows), note)


def mixed_cells(group: Group) -> dict[tuple[str, str], str]:
    """The cells whose runs have different settings: (task, method) -> which."""
    pairs = [(task, method) for task in group.tasks for method in group.methods]
    found = {pair: difference(run.experiment for run in group.of(*pair)) for pair in pairs}
    return {pair: what for pair, what in found.items() if what}


def cell(values: Sequence[float]) -> str:
    """``mean ± standard error``, the error left out for a single value."""
    if not values:
        return NOTHING
    value, error = mean_and_error(values)
    return f"{value:.1f}" if error is None else f"{value:.1f} ± {error:.1f}"


def _average(group: Group, when: When, method: str, is_published: bool) -> str:
    """The mean over tasks, where there is a number for each."""
    if is_published:
        numbers = [published(task, method, when) for task in group.tasks]
        values = [each[0] for each in numbers if each]
    else:
        found = [[getattr(run, when) for run in group.of(t, method)] for t in group.tasks]
        values = [float(np.mean(each)) for each in found if each]
    return f"{np.mean(values):.1f}" if len(values) == len(group.tasks) else NOTHING


def aggregates(group: Group) -> tuple[list[str], dict[str, dict[str, Estimate]]]:
    """Mean, interquartile mean and optimality gap of each method, by the last scores.

    Returns:
        The tasks that every method has finished, and the numbers, which are of these tasks.
    """
    tasks = [task for task in group.tasks if all(group.of(task, each) for each in group.methods)]
    statistics = {"mean": mean, "IQM": interquartile_mean, "optimality gap": optimality_gap}
    # There is nothing to compare, or the returns of different tasks have no scale in common.
    if not tasks or len(group.methods) < 2 or group.measure != "score":
        return tasks, {}
    found = {}
    for method in group.methods:
        scores = [np.array([run.last for run in group.of(task, method)]) for task in tasks]
        found[method] = {name: estimate(each, scores) for name, each in statistics.items()}
    return tasks, found


def improvements(group: Group) -> dict[tuple[str, str], Estimate]:
    """How probably each method with SynthER is better than what it is compared with: offline the
    same algorithm without SynthER, online every agent without it."""
    found = {}
    for better in group.methods:
        base = better.removesuffix(" + SynthER")
        others = [m for m in group.methods if "SynthER" not in m] if group.online else [base]
        for worse in others if "SynthER" in better else ():
            tasks = [t for t in group.tasks if group.of(t, better) and group.of(t, worse)]
            scores = [
                np.array([run.last for run in group.of(task, method)])
                for method in (better, worse)
                for task in tasks
            ]
            if tasks:
                found[better, worse] = estimate(improvement, scores)
    return found


def aggregate_tables(group: Group) -> list[Table]:
    """The aggregate metrics as tables; none where there is nothing to compare."""
    tasks, found = aggregates(group)
    note = (
        "[95 % interval]: percentile bootstrap over seeds, stratified by task; "
        "without one where a task has a single seed"
    )
    tables = []
    if found:
        header = ("", *next(iter(found.values())))
        rows = tuple((method, *map(_text, each.values())) for method, each in found.items())
        on = f"{len(tasks)} task{'s' if len(tasks) > 1 else ''} that all methods have finished"
        tables.append(Table(f"{group.name}, over {on}", header, rows, note))
    if pairs := improvements(group):
        rows = tuple((f"{x} over {y}", _text(each, 2)) for (x, y), each in pairs.items())
        title = f"{group.name}, probability of improvement"
        tables.append(Table(title, ("", "P(X > Y)"), rows, note))
    return tables


def unfinished_table(runs: Runs) -> Table | None:
    """The runs that are in no number; None where there are none."""
    if not runs.unfinished:
        return None
    rows = tuple((each.name, each.task, each.method, each.state) for each in runs.unfinished)
    header = ("run", "task", "method", "state")
    return Table("Not finished, in no number above", header, rows, numbers=False)


def _text(each: Estimate, digits: int = 1) -> str:
    if each.interval is None:
        return f"{each.value:.{digits}f}"
    low, high = each.interval
    return f"{each.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

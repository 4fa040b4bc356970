"""A report is four files: ``report.md``, ``report.tex``, ``curves.png`` and ``summary.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synther.files import atomic
from synther.reports.curves import cut_lines, draw_curves
from synther.reports.published import source
from synther.reports.runs import Runs
from synther.reports.statistics import Estimate, mean_and_error
from synther.reports.tables import (
    Group,
    Table,
    aggregate_tables,
    aggregates,
    groups_of,
    improvements,
    scores_table,
    unfinished_table,
)


def render(runs: Runs, folder: Path) -> list[Path]:
    """Write the report into ``folder`` and return its files.

    Without a finished run there is no picture; one of an earlier report is removed.
    """
    groups = groups_of(runs)
    tables: list[Table] = []
    for group in groups:
        tables += [scores_table(group, runs, "last"), scores_table(group, runs, "best")]
        tables += aggregate_tables(group)
    if (unfinished := unfinished_table(runs)) is not None:
        tables.append(unfinished)
    picture = folder / "curves.png"
    pictures = [picture, picture.with_suffix(".pdf")]
    for old in pictures:
        old.unlink(missing_ok=True)
    if groups:
        draw_curves(groups, picture)
    written = {
        "report.md": _markdown(runs, tables, bool(groups), cut_lines(groups)),
        "report.tex": _latex(tables),
        "summary.json": json.dumps(summary(runs, groups), indent=1, allow_nan=False) + "\n",
    }
    for name, text in written.items():
        atomic.write_text(folder / name, text)
    return [*(folder / name for name in written), *(pictures if groups else ())]


def summary(runs: Runs, groups: list[Group]) -> dict[str, Any]:
    """Every number of the report in plain values."""
    found: dict[str, Any] = {"groups": []}
    for group in groups:
        cells = []
        for task in group.tasks:
            for method in group.methods:
                if of := group.of(task, method):
                    last, best = [run.last for run in of], [run.best for run in of]
                    cells.append(
                        {
                            "task": task,
                            "method": method,
                            "seeds": [run.seed for run in of],
                            **_numbers("last", last),
                            **_numbers("best", best),
                        }
                    )
        tasks, metrics = aggregates(group)
        found["groups"].append(
            {
                "name": group.name,
                "measure": group.measure,
                "cells": cells,
                "tasks_of_aggregates": tasks,
                "aggregates": {
                    method: {name: _plain(value) for name, value in each.items()}
                    for method, each in metrics.items()
                },
                "probability_of_improvement": [
                    {"of": better, "over": worse, **_plain(value)}
                    for (better, worse), value in improvements(group).items()
                ],
            }
        )
    keys = ("name", "task", "method", "state")
    found["unfinished"] = [{key: getattr(run, key) for key in keys} for run in runs.unfinished]
    return found


def _numbers(name: str, values: list[float]) -> dict[str, Any]:
    mean, error = mean_and_error(values)
    return {name: values, f"{name}_mean": mean, f"{name}_standard_error": error}


def _plain(each: Estimate) -> dict[str, Any]:
    return {"value": each.value, "interval": each.interval and list(each.interval)}


def _markdown(runs: Runs, tables: list[Table], picture: bool, cut: list[str]) -> str:
    head = (
        f"# Results\n\n{len(runs.finished)} finished runs, {len(runs.unfinished)} not finished.\n"
    )
    parts = [head, *(table.markdown() for table in tables)]
    if _has_published(tables):
        parts.append(f"Published: {source()}.\n")
    if picture:
        parts.append("![Learning curves](curves.png)\n")
    if cut:
        parts.append(
            "These lines have only the steps at which all their runs were evaluated: "
            f"{', '.join(cut)}.\n"
        )
    return "\n".join(parts)


def _latex(tables: list[Table]) -> str:
    head = "% Needs \\usepackage{booktabs}\n"
    if _has_published(tables):
        head += f"% Published: {source()}\n"
    return head + "\n".join(table.latex() for table in tables)


def _has_published(tables: list[Table]) -> bool:
    return any(name.endswith("(published)") for table in tables for name in table.header)

"""Tables against numbers worked out by hand, and text that Markdown and LaTeX print as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synther.reports.published import _content, published
from synther.reports.runs import Runs, Unfinished
from synther.reports.tables import (
    Table,
    aggregate_tables,
    aggregates,
    groups_of,
    improvements,
    latex_escaped,
    scores_table,
    unfinished_table,
)
from tests.report.helpers import run_of, runs_of

SYNTHER = "TD3+BC + SynthER"


def test_last_and_best_by_hand() -> None:
    runs = runs_of(
        run_of([4, 1], task="a", seed=0),
        run_of([2, 3], task="a", seed=1),
        run_of([7, 5], task="a", method=SYNTHER),
        run_of([1, 9], task="b", seed=0),
    )
    (group,) = groups_of(runs)
    last = scores_table(group, runs, "last")
    assert last.header == ("", "TD3+BC", SYNTHER)
    assert last.rows == (
        ("a", "2.0 ± 1.0", "5.0"),  # of 1 and 3: std sqrt(2), over sqrt(2)
        ("b", "9.0", "-"),
        ("mean of tasks", "5.5", "-"),  # no average over what is not all there
    )
    best = scores_table(group, runs, "best")
    assert best.rows[0] == ("a", "3.5 ± 0.5", "7.0")
    assert "1 to 2 seeds" in last.note


def test_cells_with_unfinished_runs_are_marked() -> None:
    left = Unfinished("offline/x", "a", "TD3+BC", "stopped")
    runs = Runs((run_of([1], task="a"), run_of([2], task="a", method=SYNTHER)), (left,))
    (group,) = groups_of(runs)
    table = scores_table(group, runs, "last")
    assert table.rows == (("a", "1.0*", "2.0"),)
    assert "without its unfinished runs" in table.note
    listed = unfinished_table(runs)
    assert listed is not None
    assert listed.rows == (("offline/x", "a", "TD3+BC", "stopped"),)
    assert unfinished_table(runs_of()) is None


def test_published_numbers_stand_beside_their_method() -> None:
    runs = runs_of(
        run_of([50], task="hopper-medium-v2"),
        run_of([60], task="hopper-medium-v2", method=SYNTHER),
        run_of([1], task="hopper-demo-v0"),
    )
    (group,) = groups_of(runs)
    table = scores_table(group, runs, "last")
    assert table.header == ("", "TD3+BC", "TD3+BC (published)", SYNTHER)
    assert table.rows[0] == ("hopper-medium-v2", "50.0", "60.4 ± 3.5", "60.0")
    assert table.rows[1] == ("hopper-demo-v0", "1.0", "-", "-")


@pytest.mark.parametrize(
    ("tasks", "when", "averages"),
    [  # as the source prints them below its tables, in the order TD3+BC, IQL, EDAC, CQL
        ("halfcheetah hopper walker2d", "last", (76.45, 81.63, 92.92, 78.28)),
        ("halfcheetah hopper walker2d", "best", (84.83, 86.28, 96.36, 84.68)),
        ("maze2d", "last", (61.99, 46.23, 82.64, 33.65)),
        ("maze2d", "best", (149.30, 111.95, 162.27, 126.07)),
    ],
)
def test_published_numbers_have_the_published_averages(
    tasks: str, when: str, averages: tuple[float, ...]
) -> None:
    families = tuple(tasks.split())
    for method, average in zip(("TD3+BC", "IQL", "EDAC", "CQL"), averages, strict=True):
        names = [name for name in _content()[when] if name.startswith(families)]
        values = [published(name, method, when)[0] for name in names]  # type: ignore[arg-type, index]
        assert sum(values) / len(values) == pytest.approx(average, abs=0.011)
    assert published("hopper-medium-v2", SYNTHER, "last") is None
    assert published("hopper-demo-v0", "TD3+BC", "last") is None


def test_aggregates_are_of_the_tasks_that_all_have() -> None:
    runs = runs_of(
        *(run_of([x], task="a", seed=i) for i, x in enumerate((10.0, 20.0))),
        *(run_of([x], task="a", method=SYNTHER, seed=i) for i, x in enumerate((30.0, 50.0))),
        run_of([1000.0], task="b"),
    )
    (group,) = groups_of(runs)
    tasks, found = aggregates(group)
    assert tasks == ["a"]
    assert found["TD3+BC"]["mean"].value == 15
    assert found[SYNTHER]["optimality gap"].value == 60
    pairs = improvements(group)
    assert pairs[SYNTHER, "TD3+BC"].value == 1
    titles = [table.title for table in aggregate_tables(group)]
    assert "over 1 task that all methods have finished" in titles[0]


def test_returns_of_different_tasks_are_not_averaged() -> None:
    runs = runs_of(
        *(
            run_of([x], task=task, method=method, measure="return", online=True)
            for x, task, method in (
                (1, "a", "SAC"), (500, "b", "SAC"), (2, "a", "SynthER"), (400, "b", "SynthER"),
            )
        )
    )  # fmt: skip
    (group,) = groups_of(runs)
    assert aggregates(group)[1] == {}
    assert [row[0] for row in scores_table(group, runs, "last").rows] == ["a", "b"]
    assert improvements(group)["SynthER", "SAC"].value == 0.5


def test_scores_and_returns_are_in_tables_of_their_own() -> None:
    runs = runs_of(run_of([1]), run_of([2], task="u", measure="return"), run_of([3], online=True))
    assert [(group.online, group.measure) for group in groups_of(runs)] == [
        (False, "return"), (False, "score"), (True, "score"),
    ]  # fmt: skip


def test_markdown_and_latex_of_a_table() -> None:
    table = Table("T_1", ("", "a|b"), (("x_1", "1.0 ± 0.5"),), "50 %")
    assert table.markdown() == ("## T_1\n\n|  | a\\|b |\n|---|---:|\n| x_1 | 1.0 ± 0.5 |\n\n50 %\n")
    latex = table.latex()
    assert r"x\_1 & 1.0 $\pm$ 0.5 \\" in latex
    assert r"\caption{T\_1. 50 \%}" in latex
    assert r"\begin{tabular}{lr}" in latex
    for kind in ("table", "tabular"):
        assert latex.count(rf"\begin{{{kind}}}") == latex.count(rf"\end{{{kind}}}") == 1


@given(st.text(alphabet="ab\\{}$&#%_^~<>± ", max_size=30))
def test_latex_has_no_special_character_left(text: str) -> None:
    escaped = latex_escaped(text)
    known = r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater)\{\}|\$\\pm\$"
    left = re.sub(rf"{known}|\\[{{}}$&#%_]", "", escaped)
    assert not re.search(r"[\\{}$&#%_^~<>±]", left)
    undone = {
        r"\textbackslash{}": "\\", r"\textasciicircum{}": "^", r"\textasciitilde{}": "~",
        r"\textless{}": "<", r"\textgreater{}": ">", r"$\pm$": "±",
    }  # fmt: skip
    pattern = "|".join(map(re.escape, undone)) + r"|\\(.)"
    assert re.sub(pattern, lambda m: undone.get(m[0]) or m[1], escaped) == text

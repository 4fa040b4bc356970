"""The histograms of columns: their pages, what is counted rather than drawn, and their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synther.diffusion.fidelity import marginals_plot
from synther.diffusion.fidelity.marginals_plot import PAGE, plot_marginals
from synther.diffusion.fidelity.report import compare
from synther.transitions import Transitions
from tests.data import random_transitions


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures in place of the files, whose drawing is what costs time."""
    drawn: list[Figure] = []
    monkeypatch.setattr(marginals_plot, "save_figure", lambda figures, path: drawn.extend(figures))
    return drawn


def drawn(pages: list[Figure], real: Transitions, synthetic: Transitions) -> dict[str, Axes]:
    """Title of a panel, without its score -> the panel."""
    plot_marginals(real, synthetic, "x.png", fidelity=compare(real, synthetic))
    return {axis.get_title().split(":")[0]: axis for page in pages for axis in page.axes}


def test_many_columns_go_on_pages_the_least_similar_first(pages: list[Figure]) -> None:
    real, synthetic = random_transitions(60, 40, 3), random_transitions(60, 40, 3, seed=1)
    synthetic.observations[:, 17] += 100
    panels = drawn(pages, real, synthetic)
    assert [len(page.axes) for page in pages] == [PAGE, PAGE, 85 - 2 * PAGE]
    assert len(panels) == 85
    assert pages[0].axes[0].get_title() == "obs[17]: 0.000"
    scores = [float(axis.get_title().split(": ")[1]) for page in pages for axis in page.axes]
    assert scores == sorted(scores)
    assert "page 2 of 3" in pages[1].get_suptitle()


def test_columns_of_one_page_come_in_their_order(pages: list[Figure]) -> None:
    panels = drawn(pages, random_transitions(60, 2, 1), random_transitions(60, 2, 1, seed=1))
    expected = ["obs[0]", "obs[1]", "act[0]", "reward", "next obs[0]", "next obs[1]", "terminal"]
    assert list(panels) == expected
    assert all(axis.axison for axis in panels.values())


def test_rows_outside_of_a_panel_are_counted_and_make_no_bar_at_its_edge(
    pages: list[Figure],
) -> None:
    real, synthetic = random_transitions(2000, 2, 1), random_transitions(2000, 2, 1)
    synthetic.observations[:500, 0] = 1000
    panels = drawn(pages, real, synthetic)
    assert panels["obs[0]"].texts[0].get_text().endswith("| 25.0%")
    bars = panels["obs[0]"].patches[1].get_data().values
    assert bars.sum() == pytest.approx(0.75, abs=0.003)
    assert bars[-1] < 0.01
    assert panels["obs[1]"].texts[0].get_text() == ""


def test_rows_at_the_bounds_are_counted_and_their_bars_are_cut(pages: list[Figure]) -> None:
    rows = random_transitions(2000, 2, 1)
    at = np.random.default_rng(0).uniform(-1, 1, (2000, 1)).astype(np.float32)
    at[:600], at[600:1000] = 1, -1
    real = replace(rows, actions=at)
    axis = drawn(pages, real, real)["act[0]"]
    assert axis.texts[0].get_text() == "at bounds 50% | 50%"
    bars = np.sort(axis.patches[0].get_data().values)
    assert bars[-3] < axis.get_ylim()[1] < bars[-2]


def test_the_files_hold_all_pages_and_old_ones_go(tmp_path: Path) -> None:
    real, few = random_transitions(30, 15, 12), random_transitions(30, 1, 1)
    path = plot_marginals(real, real, tmp_path / "m[1].png", fidelity=compare(real, real))
    assert {each.name for each in tmp_path.iterdir()} == {"m[1].png", "m[1]_page2.png", "m[1].pdf"}
    assert path.with_suffix(".pdf").read_bytes().count(b"/Type /Page ") == 2
    first = path.with_suffix(".pdf").read_bytes()
    plot_marginals(real, real, path, fidelity=compare(real, real))
    assert path.with_suffix(".pdf").read_bytes() == first  # no date in it
    plot_marginals(few, few, path, fidelity=compare(few, few))
    assert {each.name for each in tmp_path.iterdir()} == {"m[1].png", "m[1].pdf"}

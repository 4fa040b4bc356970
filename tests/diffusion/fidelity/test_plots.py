"""Pictures are written for every shape of input, and show what they were given."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from synther.diffusion.fidelity import plots
from synther.diffusion.fidelity.assessment import RowMeasures
from synther.files.figures import BETTER_DOWN
from synther.transitions import TransitionLayout
from tests.data import random_transitions

REAL = random_transitions(80)
LAYOUT = TransitionLayout.of(REAL)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures in place of the files, whose drawing is what costs time."""
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    return drawn


def test_correlations_of_all_sets_and_their_differences(figures: list[Figure]) -> None:
    samples = {"same": REAL, "other": random_transitions(90, seed=1)}
    plots.plot_correlations(LAYOUT, REAL, samples, "x.png")
    axes = figures[0].axes
    assert [axis.get_title() for axis in axes[:3]] == ["real", "same", "other"]
    expected = np.corrcoef(LAYOUT.pack(REAL), rowvar=False)
    np.testing.assert_allclose(axes[0].images[0].get_array(), expected, atol=1e-6)
    np.testing.assert_allclose(axes[4].images[0].get_array(), 0, atol=1e-12)
    assert axes[4].get_title() == "same - real,\nmean size 0.000"
    assert [bar.get_xlabel() for bar in axes[3].child_axes] == ["correlation", "difference"]


@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_panel_for_each_set_on_the_axes_of_the_real_rows(
    figures: list[Figure], count: int
) -> None:
    samples = {f"set {i}": random_transitions(50, seed=i) for i in range(count)}
    plots.plot_projection(LAYOUT, REAL, samples, "x.png")
    shown = figures[0].axes
    assert all(axis.axison for axis in shown)
    titles = [axis.get_title() for axis in shown]
    assert titles == ["real (80 rows)", *(f"set {i} (50 rows)" for i in range(count))]
    points = np.asarray(shown[0].collections[0].get_offsets())
    rows = LAYOUT.pack(REAL)
    singular = np.linalg.svd((rows - rows.mean(0)) / rows.std(0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(points, axis=0), singular[:2], rtol=1e-4)


def test_novelty_beside_the_dynamics_error(figures: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    errors = np.where(np.arange(40) % 4, rng.uniform(0.1, 1, 40), np.nan)
    measures = {
        "held_out": RowMeasures(rng.uniform(1, 2, 40), np.full(40, 1e-15)),
        "samples": RowMeasures(rng.uniform(1, 2, 40), errors),
    }
    plots.plot_novelty(measures, "x.png")
    left, right = figures[0].axes
    labels = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert labels == ["real, held out", "samples"]
    distances = left.lines[1].get_xdata()
    np.testing.assert_array_equal(distances, np.sort(measures["samples"].distances))
    discs = [line.get_ydata()[0] for line in right.lines]
    assert discs == [plots.FLOOR_ERROR, pytest.approx(np.nanmedian(errors))]
    assert len(right.collections[1].get_offsets()) == 30
    assert right.texts[0].get_text() == "1e-07 and less: rounding alone"
    assert [BETTER_DOWN in axis.get_ylabel() for axis in (left, right)] == [False, True]


def test_without_a_simulator_there_is_no_empty_panel(figures: list[Figure]) -> None:
    plots.plot_novelty({"samples": RowMeasures(np.ones(5), np.full(5, np.nan))}, "x.png")
    assert len(figures[0].axes) == 1


def test_files_are_pictures(tmp_path: Path) -> None:
    measures = {"samples": RowMeasures(np.ones(5), np.zeros(5))}
    path = plots.plot_novelty(measures, tmp_path / "n.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_the_same_samples_have_the_same_colour_everywhere() -> None:
    colours = plots._colours({"held_out": 0, "a": 0, "b": 0})
    assert colours == [plots.REAL, *plots._colours({"a": 0, "b": 0})]

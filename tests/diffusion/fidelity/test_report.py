"""Fidelity scores against values worked out by hand, loops, and what they must react to."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synther.diffusion.fidelity.distances import sliced_wasserstein
from synther.diffusion.fidelity.marginals_plot import plot_marginals
from synther.diffusion.fidelity.report import SCORES, compare, report
from synther.diffusion.fidelity.similarity import correlations, ranks
from synther.transitions import TransitionLayout, Transitions
from tests.data import random_transitions

pytestmark = pytest.mark.arithmetic


def ks_by_loop(a: np.ndarray, b: np.ndarray) -> float:
    """The largest gap of the two empirical distribution functions, point by point."""
    return max(abs(np.mean(a <= x) - np.mean(b <= x)) for x in np.concatenate([a, b]))


def spearman_by_ranks(a: np.ndarray) -> np.ndarray:
    ranks = np.argsort(np.argsort(a, axis=0), axis=0).astype(float)  # no ties in continuous data
    return np.corrcoef(ranks, rowvar=False)


def test_scores_equal_a_second_implementation() -> None:
    a, b = random_transitions(80, seed=1), random_transitions(50, seed=2)
    layout = TransitionLayout.of(a, terminals=False)
    rows_a, rows_b = layout.pack(a).astype(np.float64), layout.pack(b).astype(np.float64)
    scores = compare(a, b, terminals=False)
    expected = [1 - ks_by_loop(rows_a[:, i], rows_b[:, i]) for i in range(layout.row_dim)]
    assert list(scores.columns.values()) == pytest.approx(expected, abs=1e-12)
    assert scores.marginal == pytest.approx(np.mean(expected), abs=1e-12)
    pairs = [(i, j) for i in range(layout.row_dim) for j in range(i)]
    for score, correlate in (
        (scores.correlation, lambda rows: np.corrcoef(rows, rowvar=False)),
        (scores.rank_correlation, spearman_by_ranks),
    ):
        gaps = [abs(correlate(rows_a)[i, j] - correlate(rows_b)[i, j]) / 2 for i, j in pairs]
        assert score == pytest.approx(1 - np.mean(gaps), abs=1e-6)


def test_equal_sets_score_one_and_disjoint_columns_zero() -> None:
    a = random_transitions()
    scores = compare(a, a)
    assert scores.marginal == 1
    assert scores.correlation == pytest.approx(1)
    moved = Transitions.from_arrays(a.arrays() | {"rewards": a.rewards + 100})
    assert compare(a, moved).columns["rewards"] == 0


def test_shuffling_a_column_costs_correlation_and_no_marginal() -> None:
    rng = np.random.default_rng(0)
    base = random_transitions(2000)
    linked = base.arrays() | {"next_observations": base.observations * 2}
    shuffled = linked | {"next_observations": rng.permutation(linked["next_observations"])}
    scores = compare(Transitions.from_arrays(linked), Transitions.from_arrays(shuffled))
    assert scores.marginal == 1
    assert scores.correlation < 0.97
    assert scores.rank_correlation < 0.97


def test_constant_columns_are_left_out_of_correlations() -> None:
    a = random_transitions(200, seed=1)
    b = random_transitions(200, seed=2)
    constant = {"rewards": np.zeros(200), "terminals": np.zeros(200)}
    a, b = (Transitions.from_arrays(each.arrays() | constant) for each in (a, b))
    assert np.isfinite(compare(a, b).correlation)
    assert compare(a, b).columns["terminals"] == 1


def test_the_report_shows_the_ceiling_beside_the_samples(tmp_path: Path) -> None:
    training, held_out = random_transitions(900, seed=1), random_transitions(300, seed=2)
    noisy = random_transitions(500, seed=3)
    noisy = Transitions.from_arrays(noisy.arrays() | {"rewards": noisy.rewards * 3})
    result = report(training, noisy, held_out)
    contents = json.loads(result.save(tmp_path / "fidelity.json").read_text())
    assert contents["reference"] == "held-out real rows"
    assert contents["synthetic"]["marginal"] < contents["training"]["marginal"]
    assert contents["synthetic"]["rows"] == [300, 500]
    assert [column.header for column in result.table().columns] == [
        *("", "real, training", "synthetic")
    ]
    assert contents["synthetic"]["sliced_wasserstein"] > contents["training"]["sliced_wasserstein"]
    assert contents["synthetic"]["dynamics"] is None
    assert report(training, noisy).reference == "the training rows"


def test_rates_are_those_of_the_rows_in_question() -> None:
    a, b = random_transitions(100, seed=1), random_transitions(200, seed=2)
    actions = np.zeros((200, 2))
    actions[:10, 0] = 1
    actions[5:30, 1] = -1.3
    terminals = np.arange(200) < 8
    b = Transitions.from_arrays(b.arrays() | {"actions": actions, "terminals": terminals})
    scores = compare(a, b)
    assert scores.actions_at_bounds == 30 / 200
    assert scores.terminal_rate == pytest.approx(8 / 200)
    layout = TransitionLayout.of(a)
    assert scores.sliced_wasserstein == sliced_wasserstein(layout.pack(a), layout.pack(b))


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    constant = Transitions.from_arrays(
        {name: np.zeros_like(array) for name, array in random_transitions().arrays().items()}
    )
    path = report(constant, constant).save(tmp_path / "fidelity.json")
    assert json.loads(path.read_text())["synthetic"]["correlation"] is None


def test_progress_is_told_after_each_score() -> None:
    told: list[int] = []
    compare(random_transitions(), random_transitions(seed=1), advance=told.append)
    assert told == [1] * SCORES


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), rows=st.integers(5, 60))
def test_order_and_units_of_the_rows_do_not_matter(seed: int, scale: float, rows: int) -> None:
    rng = np.random.default_rng(seed)
    pair = random_transitions(rows, seed=seed), random_transitions(2 * rows, seed=seed + 1)
    moved = []
    for each in pair:
        # Powers of two, so that not a bit of a value is lost and ties stay ties.
        factor = 2.0 ** round(np.log2(scale))
        changed = {**each.arrays(), "rewards": factor * each.rewards}
        moved.append(Transitions.from_arrays(changed).subset(rng.permutation(len(each))))
    before, after = compare(*pair), compare(*moved)
    for name in ("marginal", "correlation", "rank_correlation", "sliced_wasserstein"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-4, abs=1e-6)
    assert after.columns == pytest.approx(before.columns, abs=1e-12)


def test_correlations_of_many_rows_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, block by block, also far from 0."""
    rows = np.random.default_rng(0).normal(size=(1000, 4)).cumsum(axis=1) + 1e3
    monkeypatch.setattr("synther.diffusion.fidelity.similarity._BLOCK", 300)
    np.testing.assert_allclose(correlations(rows), np.corrcoef(rows, rowvar=False), atol=1e-10)


def test_ranks_share_the_mean_of_equal_values() -> None:
    np.testing.assert_array_equal(ranks(np.array([[3.0], [1], [3], [9]]))[:, 0], [0, -1.5, 0, 1.5])


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="1 and 64 rows"):
        compare(random_transitions().subset(slice(0, 1)), random_transitions())


@pytest.mark.parametrize("terminals", [True, False])
def test_the_picture_of_marginals_is_written(tmp_path: Path, terminals: bool) -> None:
    a, b = random_transitions(50), random_transitions(60, seed=1)
    a = Transitions.from_arrays(a.arrays() | {"rewards": np.zeros(50)})  # one bin would divide by 0
    scores = compare(a, b, terminals=terminals)
    path = plot_marginals(a, b, tmp_path / "m.png", fidelity=scores, terminals=terminals)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_actions_at_bounds_are_those_at_the_datas_own() -> None:
    """Pusher's actions reach 2; Humanoid's 0.4, which is no bound of [-1, 1]."""
    rows = random_transitions(200, 2, 1)
    rows.actions[:50] = 1
    for scale in (0.4, 1.0, 2.0):
        bounds = {"action_low": -scale, "action_high": scale}
        scaled = replace(rows, actions=scale * rows.actions, metadata=bounds)
        assert compare(scaled, scaled).actions_at_bounds == 0.25
    silent = replace(rows, actions=2 * rows.actions)
    assert report(silent, silent, silent).comparisons["training"].actions_at_bounds > 0.25

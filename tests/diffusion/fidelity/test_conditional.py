"""Conditional error and noise against a law that is known exactly, and what each of them sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from synther.diffusion.fidelity.conditional import Conditional, ConditionalColumn, conditional
from synther.transitions import Transitions
from tests.diffusion.fidelity.known_law import NOISE, TERMINAL_SPEED, ExactLaw, known_law

pytestmark = pytest.mark.arithmetic
HELD_OUT, FRESH = known_law(3000, 2), known_law(5000, 3)


def column(found: Conditional, name: str) -> ConditionalColumn:
    (chosen,) = [each for each in found.columns if each.name == name]
    return chosen


def test_real_rows_have_no_error_and_their_own_noise() -> None:
    found = conditional(ExactLaw(), HELD_OUT, FRESH)
    assert [each.name for each in found.columns] == ["differences[0]", "differences[1]", "rewards"]
    for each in found.columns:
        assert abs(each.excess) < 4 * each.excess_error + 1e-9
        assert each.ratio == pytest.approx(1, abs=0.1)
    assert column(found, "differences[0]").noise is None  # the position has no noise
    for name in ("differences[1]", "rewards"):
        each = column(found, name)
        assert each.noise is not None
        assert each.noise_error is not None
        assert abs(each.noise - 1) < 4 * each.noise_error
        assert each.noise_error < 0.06
    assert [(flag.name, flag.real, flag.synthetic) for flag in found.flags] == [
        ("next_observations[2]", 0, 0),
        ("terminals", 0, 0),
    ]


def test_the_errors_are_those_of_repetition() -> None:
    """Of 60 fresh pairs of sets, the spread is the error that each of them states."""
    found = [
        column(conditional(ExactLaw(), known_law(400, 2 * s), known_law(400, 2 * s + 1)), name)
        for s in range(60)
        for name in ("differences[1]", "rewards")
    ]
    noise = [(each.noise - 1) / each.noise_error for each in found]
    excess = [each.excess / each.excess_error for each in found]
    assert np.std(noise) == pytest.approx(1, abs=0.3)
    assert np.std(excess) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("gain", [0.0, 0.5, 3.0])
def test_the_excess_of_differences_of_a_wrong_size_is_the_square_of_what_is_wrong(
    gain: float,
) -> None:
    """Without noise and switch: position moves by 0.1 times the velocity, nothing else."""
    differences = FRESH.next_observations - FRESH.observations
    differences[:, 0] *= gain
    wrong = replace(FRESH, next_observations=FRESH.observations + differences)
    found = column(conditional(ExactLaw(), HELD_OUT, wrong), "differences[0]")
    assert found.excess == pytest.approx((gain - 1) ** 2, rel=0.1)
    assert found.ratio > 1000  # the law has no error but rounding


@pytest.mark.parametrize("noise", [0.0, 0.5, 0.64, 0.8, 1.5])
def test_lost_and_added_noise_is_measured(noise: float) -> None:
    found = conditional(ExactLaw(), HELD_OUT, known_law(5000, 4, noise=noise))
    for name in ("differences[1]", "rewards"):
        each = column(found, name)
        assert each.noise_error is not None
        assert each.noise == pytest.approx(noise, abs=4 * each.noise_error + 0.001)
        assert each.ratio == pytest.approx(noise, abs=0.12)


def test_noise_is_not_measured_by_real_neighbours_that_are_equal() -> None:
    """Every held-out row is there twice, so that its neighbour is its own copy."""
    twice = HELD_OUT.subset(np.repeat(np.arange(1000), 2))
    found = conditional(ExactLaw(), twice, FRESH)
    assert [each.noise for each in found.columns] == [None] * 3
    assert all(np.isfinite(each.excess) for each in found.columns)


def test_a_wrong_mean_does_not_hide_lost_noise() -> None:
    """Rewards with 0.64 of the noise, and wrong by as much as is missing: the distance from the
    law is that of real rows."""
    rows = known_law(5000, 4, noise=0.64)
    missing = NOISE * np.sqrt(1 - 0.64**2)
    shifted = rows.rewards + missing * np.where(rows.observations[:, 2] > 0, 1, -1)
    found = column(conditional(ExactLaw(), HELD_OUT, replace(rows, rewards=shifted)), "rewards")
    assert found.ratio == pytest.approx(1, abs=0.05)
    assert found.noise == pytest.approx(0.64, abs=0.05)


def test_flags_that_do_not_follow_are_counted() -> None:
    following = FRESH.next_observations.copy()
    following[:100, 2] = 1 - following[:100, 2]
    terminals = FRESH.terminals.copy()
    terminals[:50] = 1 - terminals[:50]
    wrong = replace(FRESH, next_observations=following, terminals=terminals)
    found = conditional(ExactLaw(), HELD_OUT, wrong)
    assert [(flag.synthetic, flag.rows) for flag in found.flags] == [(100, 5000), (50, 5000)]


def test_the_ratio_of_all_columns_is_their_geometric_mean() -> None:
    columns = [ConditionalColumn(name, ratio, 0.0, 0.1) for name, ratio in (("a", 2.0), ("b", 8.0))]
    assert Conditional(tuple(columns), ()).ratio == pytest.approx(4)
    assert np.isnan(Conditional((), ()).ratio)


def test_a_simple_law_of_the_actions_alone() -> None:
    """``next = observation + 0.02 * action``: differences of R^2 -2.5 have an excess of 3.5."""
    rng = np.random.default_rng(0)

    class Law(ExactLaw):
        def __init__(self) -> None:
            self.column_names = ["next_observations[0]", "rewards", "terminals"]
            self.smooth, self.noisy = [0], []
            self.values = torch.zeros(2, 3)

        def columns_of(self, kind: str) -> list[int]:
            return []

        def predict(self, observations, actions):  # type: ignore[no-untyped-def]
            return type("Means", (), {"mean": observations + 0.02 * actions})

        def flag_probabilities(self, observations, actions, successors):  # type: ignore[no-untyped-def]
            return observations[:, :0]

    def rows(count: int, noise: float) -> Transitions:
        observations, actions = rng.normal(size=(2, count, 1))
        after = observations + 0.02 * actions + noise * rng.normal(size=(count, 1))
        nothing = np.zeros(count)
        return Transitions(observations, actions, nothing, after, nothing)

    (found,) = conditional(Law(), rows(2000, 0.0), rows(4000, 0.02 * np.sqrt(3.5))).columns
    assert found.excess == pytest.approx(3.5, rel=0.1)


def test_flags_of_which_the_judged_rows_show_one_value_are_judged_as_well() -> None:
    """All held-out rows are terminal. Which two values there are is what the regression knows."""
    ended = np.abs(HELD_OUT.next_observations[:, 1]) > TERMINAL_SPEED
    held_out = HELD_OUT.subset(np.flatnonzero(ended))
    wrong = replace(FRESH, terminals=1 - FRESH.terminals)
    flags = [conditional(ExactLaw(), held_out, rows).flags[1] for rows in (FRESH, wrong)]
    assert [(flag.real, flag.synthetic) for flag in flags] == [(0, 0), (0, len(FRESH))]

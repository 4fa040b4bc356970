"""Aggregate metrics against numpy, closed forms, and counting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synther.reports import statistics
from synther.reports.statistics import (
    estimate,
    improvement,
    interquartile_mean,
    mean,
    mean_and_error,
    optimality_gap,
)

pytestmark = pytest.mark.arithmetic

numbers = st.floats(-200, 200)
tasks = st.lists(st.lists(numbers, min_size=1, max_size=6).map(np.array), min_size=1, max_size=4)


def test_mean_and_standard_error_by_hand() -> None:
    value, error = mean_and_error([1, 2, 6])
    assert value == 3
    assert error == pytest.approx(math.sqrt((4 + 1 + 9) / 2) / math.sqrt(3))
    assert mean_and_error([5]) == (5, None)


@settings(max_examples=50)
@given(tasks)
def test_mean_and_optimality_gap(scores: list[np.ndarray]) -> None:
    means = [sum(each) / len(each) for each in scores]
    assert float(mean(scores)) == pytest.approx(sum(means) / len(means), abs=1e-9)
    gaps = [np.mean([max(0, 100 - x) if x < 100 else 0 for x in each]) for each in scores]
    assert float(optimality_gap(scores)) == pytest.approx(float(np.mean(gaps)), abs=1e-9)


@settings(max_examples=50)
@given(tasks)
def test_interquartile_mean_is_of_the_middle_half(scores: list[np.ndarray]) -> None:
    together = sorted(x for each in scores for x in each)
    cut = len(together) // 4
    middle = together[cut : len(together) - cut]
    assert float(interquartile_mean(scores)) == pytest.approx(float(np.mean(middle)), abs=1e-9)


def test_probability_of_improvement_by_counting() -> None:
    x = [np.array([1.0, 2.0, 3.0]), np.array([5.0])]
    y = [np.array([2.0, 0.0]), np.array([5.0, 1.0])]
    first = (0 + 1 + 0.5 + 1 + 1 + 1) / 6  # pairs of the first task; the tie counts half
    second = (0.5 + 1) / 2
    assert float(improvement([*x, *y])) == pytest.approx((first + second) / 2)


def test_the_interval_of_a_mean_is_the_closed_form() -> None:
    # The bootstrap distribution of the mean has standard deviation std / sqrt(n), std without
    # Bessel's correction, and is close to normal.
    scores = np.random.default_rng(0).normal(50, 10, size=200)
    found = estimate(mean, [scores])
    assert found.interval is not None
    half = 1.96 * scores.std() / math.sqrt(200)
    assert found.value == pytest.approx(scores.mean())
    # 50 000 draws leave a 2.5 % quantile uncertain by about 0.01 standard deviations.
    assert found.interval[0] == pytest.approx(scores.mean() - half, abs=0.04 * half)
    assert found.interval[1] == pytest.approx(scores.mean() + half, abs=0.04 * half)


def test_the_interval_is_stratified_by_task() -> None:
    # Within a task all seeds agree: nothing varies when seeds are drawn within tasks.
    found = estimate(mean, [np.full(5, 10.0), np.full(3, 90.0)])
    assert found.value == 50
    assert found.interval == (50, 50)


def test_the_interval_against_a_second_implementation() -> None:
    rng = np.random.default_rng(1)
    scores = [rng.normal(20, 5, size=6), rng.normal(70, 20, size=9)]
    draws = []
    for _ in range(20_000):
        drawn = [each[rng.integers(len(each), size=len(each))] for each in scores]
        together = np.sort(np.concatenate(drawn))
        draws.append(together[3:-3].mean())  # 15 scores, a quarter of them is 3
    low, high = np.quantile(draws, [0.025, 0.975])
    found = estimate(interquartile_mean, scores)
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(low, abs=0.1 * (high - low))
    assert found.interval[1] == pytest.approx(high, abs=0.1 * (high - low))


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_few_runs_is_that_of_all_their_resamples(seed: int) -> None:
    # Scores of the guided study: 3 % of all resamples have a probability of 1/2 or less, so that
    # the interval of 95 % begins there; 2 000 draws began it at 0.62 or at 1/2, by their seed.
    x = np.array([10.09, 11.74, 10.06, 11.86])
    y = np.array([8.55, 8.26, 8.56, 10.99])
    resamples = np.array(list(itertools.product(range(4), repeat=4)))
    wins = (x[:, None] > y).astype(float)
    drawn = wins[resamples[:, None, :, None], resamples[None, :, None, :]].mean(axis=(-2, -1))
    exact = np.quantile(drawn, [0.025, 0.975])
    assert exact[0] == 0.5
    assert estimate(improvement, [x, y], seed).interval == pytest.approx(tuple(exact))


def test_the_same_scores_give_the_same_interval_and_one_seed_gives_none() -> None:
    scores = [np.array([1.0, 4.0, 9.0])]
    assert estimate(mean, scores) == estimate(mean, scores)
    assert estimate(mean, [*scores, np.array([2.0])]).interval is None
    assert statistics.CONFIDENCE == 0.95

"""Sliced Wasserstein against closed forms and scipy's one-dimensional distance."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from synther.diffusion.fidelity.distances import sliced_wasserstein, standardise

pytestmark = pytest.mark.arithmetic


def normal(rows: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim))


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 60), (37, 100), (100, 7), (1, 5)])
def test_each_projection_is_scipys_wasserstein_distance(n: int, m: int) -> None:
    a, b = normal(n), normal(m, seed=1) * 2 + 1
    directions = np.random.default_rng(5).normal(size=(16, 4))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    mean, std = a.mean(axis=0), a.std(axis=0) if n > 1 else np.ones(4)
    expected = np.mean(
        [stats.wasserstein_distance((a - mean) / std @ u, (b - mean) / std @ u) for u in directions]
    )
    found = sliced_wasserstein(a, b, projections=16, seed=5)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_shift_costs_its_length_times_the_mean_cosine(dim: int) -> None:
    """Moving every row by d costs ``mean |<d, u>|``, which is ``|d| Gamma(D/2) / (sqrt(pi)
    Gamma((D+1)/2))`` over all directions u."""
    rows = normal(50, dim)
    shift = np.linspace(1, 2, dim) * rows.std(axis=0)
    found = sliced_wasserstein(rows, rows + shift, projections=20_000)
    cosine = math.gamma(dim / 2) / (math.sqrt(math.pi) * math.gamma((dim + 1) / 2))
    expected = np.linalg.norm(np.linspace(1, 2, dim)) * cosine
    assert found == pytest.approx(expected, rel=0.02)


def test_two_gaussians_differ_by_their_scales() -> None:
    """In one dimension W1 of N(0, 1) and N(0, s^2) is ``|s - 1| E|Z| = |s - 1| sqrt(2 / pi)``."""
    few, many = (stats.norm.ppf((np.arange(n) + 0.5) / n)[:, None] for n in (2000, 3000))
    found = sliced_wasserstein(few, 1.5 * many, projections=1)
    assert found == pytest.approx(0.5 * math.sqrt(2 / math.pi), rel=0.01)


def test_blocks_of_projections_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(30), normal(50, seed=1)
    whole = sliced_wasserstein(a, b)
    done: list[int] = []
    monkeypatch.setattr("synther.diffusion.fidelity.distances._BLOCK", 300)
    blocks = sliced_wasserstein(a, b, advance=done.append)
    assert blocks == pytest.approx(whole, rel=1e-6)
    assert sum(done) == 128
    assert len(done) > 30


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(0.01, 100),
    offset=st.floats(-10, 10),
    n=st.integers(2, 30),
    m=st.integers(1, 30),
)
def test_order_and_units_of_the_rows_do_not_matter(
    seed: int, scale: float, offset: float, n: int, m: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)) + 1
    units = scale * rng.uniform(0.5, 2, 3)
    moved = [units * (rng.permutation(rows) + offset) for rows in (a, b)]
    before = sliced_wasserstein(a, b, projections=8)
    assert sliced_wasserstein(*moved, projections=8) == pytest.approx(before, rel=1e-4)
    assert sliced_wasserstein(a, rng.permutation(a), projections=8) == pytest.approx(0, abs=1e-6)


def test_a_constant_column_keeps_its_unit() -> None:
    real = np.column_stack([np.arange(4.0), np.full(4, 3.0)])
    np.testing.assert_allclose(standardise(real + 2, real)[:, 1], 2)
    assert sliced_wasserstein(real, real + np.array([0, 2])) > 1


def test_rows_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows \(5, 4\) and \(5, 3\)"):
        sliced_wasserstein(normal(5), normal(5, 3))
    with pytest.raises(ValueError, match="one or more"):
        sliced_wasserstein(normal(0), normal(5))

"""Nearest rows against scipy's tree; copies must be seen, unseen rows must not be accused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from synther.diffusion.fidelity import novelty as module
from synther.diffusion.fidelity.novelty import nearest_distances, novelty

pytestmark = pytest.mark.arithmetic


def normal(rows: int, dim: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


@pytest.mark.parametrize(("queries", "base"), [(1, 1), (3, 2000), (600, 4100), (250, 1999)])
def test_distances_are_those_of_a_tree(queries: int, base: int) -> None:
    q, b = normal(queries), normal(base, seed=1) * 2
    told: list[int] = []
    found = nearest_distances(q, b, advance=told.append)
    np.testing.assert_allclose(found, cKDTree(b.astype(float)).query(q.astype(float))[0], atol=1e-6)
    assert sum(told) == queries


def test_a_row_does_not_count_as_its_own_neighbour() -> None:
    base = normal(2500)
    own = np.random.default_rng(1).permutation(2500)[:300]
    found = nearest_distances(base[own], base, own_rows=own)
    expected = cKDTree(base.astype(float)).query(base[own].astype(float), k=2)[0][:, 1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_copy_is_at_distance_0_also_far_from_the_origin() -> None:
    base = normal(3000) + 100
    np.testing.assert_array_equal(nearest_distances(base[::7], base), 0)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), queries=st.integers(1, 40), base=st.integers(1, 60))
def test_the_order_of_the_rows_does_not_matter(seed: int, queries: int, base: int) -> None:
    rng = np.random.default_rng(seed)
    q, b = normal(queries, seed=seed), normal(base, seed=seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_QUERIES", 7)
        patch.setattr(module, "_BASE", 9)
        order = rng.permutation(queries)
        found = nearest_distances(q[order], b[rng.permutation(base)])
    np.testing.assert_allclose(found, nearest_distances(q, b)[order], atol=1e-6)


def test_the_chance_to_be_nearer_counts_pairs() -> None:
    found = novelty(np.array([1.0, 2, 3, 3]), np.array([2.0, 3, 4]))
    pairs = [(d < r) + (d == r) / 2 for d in (1, 2, 3, 3) for r in (2, 3, 4)]
    assert found.nearer == pytest.approx(np.mean(pairs))
    assert found.median == 2.5
    assert found.rows == 4


def test_copies_are_memorised_and_unseen_rows_are_not() -> None:
    training, unseen = normal(5000), nearest_distances(normal(2000, seed=1), normal(5000))
    fresh = nearest_distances(normal(2000, seed=2), training)
    copied = np.where(np.arange(2000) < 120, 0, fresh)  # 6 % of the rows are copies
    assert not novelty(unseen, unseen).memorised
    assert not novelty(fresh, unseen).memorised
    assert novelty(fresh, unseen).nearer == pytest.approx(0.5, abs=0.03)
    assert novelty(copied, unseen).memorised
    assert novelty(np.zeros(2000), unseen).nearer == 1


def test_copies_in_the_real_rows_are_no_fault_of_the_samples() -> None:
    """Where half of the unseen rows repeat training rows, samples may as well."""
    distances = np.where(np.arange(1000) % 2, 0, 1.0)
    assert not novelty(distances, distances).memorised

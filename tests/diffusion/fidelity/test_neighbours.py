"""Nearest rows against scipy's tree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from synther.diffusion.fidelity import neighbours as module
from synther.diffusion.fidelity.neighbours import nearest, nearest_distances

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
    np.testing.assert_allclose(np.linalg.norm(q - b[nearest(q, b)[1]], axis=1), found, atol=1e-5)


def test_a_row_does_not_count_as_its_own_neighbour() -> None:
    base = normal(2500)
    own = np.random.default_rng(1).permutation(2500)[:300]
    found = nearest_distances(base[own], base, own_rows=own)
    expected = cKDTree(base.astype(float)).query(base[own].astype(float), k=2)[0][:, 1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_copy_is_at_distance_0_also_far_from_the_origin() -> None:
    base = normal(3000) + 100
    np.testing.assert_array_equal(nearest_distances(base[::7], base), 0)


@settings(max_examples=15, deadline=None)
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

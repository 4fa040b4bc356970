"""The classifier test: known areas, known laws, its error, and what it must not depend on."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from synther.diffusion.fidelity import two_sample as module
from synther.diffusion.fidelity.two_sample import two_sample

pytestmark = pytest.mark.arithmetic


def normal(rows: int, dim: int = 4, seed: int = 0, mean: float = 0.0) -> np.ndarray:
    rows_ = np.random.default_rng(seed).normal(size=(rows, dim))
    rows_[:, 0] += mean
    return rows_.astype(np.float32)


def test_rows_of_one_law_cannot_be_told_apart_within_the_error() -> None:
    scores = [
        (found.auc - 0.5) / found.error
        for seed in range(8)
        for found in [two_sample(normal(500, seed=seed), normal(500, seed=100 + seed), seed=seed)]
    ]
    # Standard normal, were the folds independent: a mean of 8 within 3 / sqrt(8), each within 4.
    assert abs(np.mean(scores)) < 3 / np.sqrt(8)
    assert np.abs(scores).max() < 4


@pytest.mark.parametrize("mean", [0.5, 1.0, 2.0])
def test_the_area_of_two_gaussians_is_that_of_their_distance(mean: float) -> None:
    """The best classifier of N(0, 1) and N(mean, 1) has the area Phi(mean / sqrt 2)."""
    found = two_sample(normal(2000, seed=1), normal(2000, seed=2, mean=mean))
    best = norm.cdf(mean / np.sqrt(2))
    assert best - 0.03 - 3 * found.error < found.auc < best + 3 * found.error
    assert found.rows == 2000


def test_a_broken_dependence_shows_though_every_marginal_is_right() -> None:
    rng = np.random.default_rng(0)
    base = normal(2000)
    linked = np.stack([base[:, 0], base[:, 0] + 0.3 * base[:, 1]], axis=1)
    shuffled = np.stack([linked[:, 0], rng.permutation(linked[:, 1])], axis=1)
    assert two_sample(linked[:1000], shuffled[1000:]).auc > 0.8


def test_the_error_is_delongs_and_the_area_mann_whitneys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40).round(1), rng.normal(0.7, size=60).round(1)
    wins = (b[:, None] > a) + 0.5 * (b[:, None] == a)
    area, variance = module._area(a.astype(np.float32), b.astype(np.float32))
    assert area == pytest.approx(wins.mean(), abs=1e-6)
    expected = wins.mean(axis=1).var(ddof=1) / 60 + wins.mean(axis=0).var(ddof=1) / 40
    assert variance == pytest.approx(expected, abs=1e-6)


def test_it_repeats_leaves_global_random_numbers_alone_and_knows_no_units() -> None:
    a, b = normal(300), normal(400, seed=1, mean=0.5)
    state = torch.get_rng_state()
    first = two_sample(a, b, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert two_sample(a, b, seed=3) == first
    assert two_sample(a, b, seed=4) != first
    assert first.rows == 300
    # Powers of two, so that not a bit changes; a constant column and one of tiny spread.
    scale = np.float32([2**10, 2**-20, 1, 4])
    constant = np.full((400, 1), 7, np.float32)
    scaled = two_sample(
        np.hstack([a * scale, constant[:300]]), np.hstack([b * scale, constant]), seed=3
    )
    assert scaled == first


def test_a_wild_value_does_not_hide_the_rest() -> None:
    a, b = normal(600), normal(600, seed=1, mean=2)
    b[0] = 1e30
    assert two_sample(a, b).auc > 0.85


def test_too_few_rows_and_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="8 or more of each"):
        two_sample(normal(7), normal(300))
    with pytest.raises(ValueError, match="as many columns"):
        two_sample(normal(30), normal(30, dim=5))
    with pytest.raises(ValueError, match="the real rows are all the same"):
        two_sample(np.ones((30, 4), np.float32), normal(30))
    assert two_sample(normal(11), normal(11, seed=1)).rows == 8


def test_it_learns_on_one_thread_and_leaves_the_callers_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On more its small networks are slower, whatever library set them up."""
    before, seen = torch.get_num_threads(), []
    step = torch.optim.AdamW.step

    def stepped(*args: object) -> object:
        seen.append(torch.get_num_threads())
        return step(*args)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepped)
    torch.set_num_threads(2)
    try:
        two_sample(normal(300), normal(300, seed=1))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

"""Regions that samples lack, and those of one law, against the error that is stated."""

import numpy as np
import pytest

from synther.diffusion.fidelity.regions import regions

pytestmark = pytest.mark.arithmetic


def modes(rows: int, seed: int, missing: float = 0.0) -> np.ndarray:
    """Ten Gaussians far apart; ``missing`` of the first one's rows are taken from the others."""
    rng = np.random.default_rng(seed)
    chances = np.full(10, 0.1 + missing / 90)
    chances[0] = 0.1 * (1 - missing)
    centres = 2 * np.random.default_rng(0).normal(size=(10, 5))
    which = rng.choice(10, rows, p=chances / chances.sum())
    return (centres[which] + 0.3 * rng.normal(size=(rows, 5))).astype(np.float32)


def test_rows_of_one_law_are_elsewhere_as_often_as_expected() -> None:
    scores = []
    for seed in range(60):
        found = regions(*(modes(rows, 3 * seed + k) for k, rows in enumerate((900, 300, 500))))
        assert found is not None
        scores.append((found.elsewhere - found.expected) / found.error)
    # Shares sum to one, so that they are not independent: the mean is a little below 0.
    assert np.mean(scores) == pytest.approx(0, abs=0.6)
    assert np.std(scores) == pytest.approx(1, abs=0.35)
    assert np.max(scores) < 4


@pytest.mark.parametrize("missing", [0.8, 1.0])
def test_the_rows_of_a_missing_mode_are_elsewhere(missing: float) -> None:
    found = regions(modes(4000, 1), modes(2000, 2), modes(4000, 3, missing))
    assert found is not None
    assert found.elsewhere == pytest.approx(0.1 * missing, abs=4 * found.error + 0.01)
    assert found.elsewhere > found.expected + 4 * found.error


def test_a_small_blur_moves_nothing_and_a_wild_value_does_not_take_the_regions() -> None:
    training, held_out, rows = modes(4000, 1), modes(2000, 2), modes(4000, 3)
    training[0, 0], rows[0, 0] = 1e6, -1e6
    blurred = rows + 0.2 * np.random.default_rng(0).normal(size=rows.shape)
    found = regions(training, held_out, blurred)
    assert found is not None
    assert found.elsewhere < found.expected + 4 * found.error


def test_too_few_rows_have_no_regions_and_a_seed_gives_the_same() -> None:
    rows = modes(39, 0)
    assert regions(rows, rows, rows) is None
    many = modes(500, 0), modes(100, 1), modes(300, 2)
    assert regions(*many, seed=4) == regions(*many, seed=4)

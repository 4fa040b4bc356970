"""Copies must be seen, unseen rows must not be accused."""

import math

import numpy as np
import pytest

from synther.diffusion.fidelity.novelty import Nearness, Neighbourhood, Novelty, novelty

pytestmark = pytest.mark.arithmetic


def normal(rows: int, dim: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def near(distances: object, ratios: object = 1.0) -> Nearness:
    """Distances alone, with ratios that say nothing."""
    found = np.asarray(distances, float)
    return Nearness(
        found, np.broadcast_to(np.asarray(ratios, float), found.shape), math.nan, math.nan
    )


def test_the_chance_to_be_nearer_counts_pairs() -> None:
    found = novelty(near([1, 2, 3, 3]), near([2, 3, 4]))
    pairs = [(d < r) + (d == r) / 2 for d in (1, 2, 3, 3) for r in (2, 3, 4)]
    assert found.nearer == pytest.approx(np.mean(pairs))
    assert found.median == 2.5
    assert found.rows == 4


def brute_force(rows: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distances = np.linalg.norm(rows[:, None].astype(float) - base, axis=2)
    return distances.min(axis=1), distances.argmin(axis=1)


def test_the_share_and_its_error_are_those_of_all_labellings() -> None:
    """Brute force: call half of the real rows training rows at random, again and again."""
    training, held_out, rows = normal(60, 2), normal(60, 2, seed=1), normal(80, 2, seed=2)
    found = Neighbourhood(training, held_out).of(rows)
    winner = brute_force(rows, np.concatenate([training, held_out]))[1]
    assert found.share == pytest.approx(np.mean(winner < 60))
    rng = np.random.default_rng(0)
    labels = rng.permuted(np.tile(np.arange(120) < 60, (20_000, 1)), axis=1)
    shares = labels[:, winner].mean(axis=1)
    assert shares.mean() == pytest.approx(0.5, abs=0.002)
    assert found.share_error == pytest.approx(shares.std(), rel=0.03)


def test_ratios_are_of_training_over_held_out_and_none_is_its_own_neighbour() -> None:
    training, held_out = normal(300), normal(200, seed=1)
    own = np.arange(0, 200, 3)
    found = Neighbourhood(training, held_out).of(held_out[own], own_rows=own)
    others = np.array(
        [brute_force(held_out[[row]], np.delete(held_out, row, axis=0))[0][0] for row in own]
    )
    expected = brute_force(held_out[own], training)[0]
    np.testing.assert_allclose(found.distances, expected, atol=1e-6)
    np.testing.assert_allclose(found.ratios, expected / others, rtol=1e-6)
    unknown = Neighbourhood(training, held_out, unseen=False).of(held_out[own], own_rows=own)
    np.testing.assert_allclose(unknown.distances, np.minimum(expected, others), atol=1e-6)
    assert unknown.ratios.max() <= 1


def test_equal_distances_count_half_and_copies_of_both_are_no_copies() -> None:
    rows = np.repeat(np.float32([[0, 0], [3, 3]]), 50, axis=0)
    found = Neighbourhood(rows, rows).of(rows)
    assert found.share == 0.5
    np.testing.assert_array_equal(found.ratios, 1)


def judged(
    rows: np.ndarray, training: np.ndarray, held_out: np.ndarray, **options: bool
) -> Novelty:
    hood = Neighbourhood(training, held_out, **options)
    return novelty(hood.of(rows), hood.of(held_out, own_rows=np.arange(len(held_out))))


REAL = normal(14_000, seed=7)
TRAINING, HELD_OUT, FRESH = REAL[:8000], REAL[8000:10_000], REAL[10_000:]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("blur", [0.0, 0.02])
def test_copies_are_memorised(share: float, blur: float) -> None:
    """Also where they have a little noise, against a distance between neighbours of about 0.6."""
    count = int(share * len(FRESH))
    copies = TRAINING[:count] + blur * normal(count, seed=8)
    found = judged(np.concatenate([copies, FRESH[count:]]), TRAINING, HELD_OUT)
    assert found.memorised
    assert found.copies is not None
    assert share * 0.9 < found.copies < share + 0.01


def test_a_model_that_only_repeats_with_noise_is_memorised_by_the_share() -> None:
    """Noise of the size of the distances: no row is a copy, and all keep to the training rows."""
    found = judged(TRAINING[:4000] + 0.25 * normal(4000, seed=9), TRAINING, HELD_OUT)
    assert found.memorised
    assert found.nearer_to_training is not None
    assert found.nearer_to_training > 0.52


def test_rows_where_the_data_are_dense_are_no_copies() -> None:
    """What the older statistic called memorised: samples that shun the tails are nearer to training
    rows than most real rows are, and as near to held-out ones."""
    found = judged(0.4 * FRESH, TRAINING, HELD_OUT)
    assert found.nearer > 0.7
    assert found.close > 0.03
    assert not found.memorised
    assert found.nearer_to_training is not None
    assert found.nearer_to_training_error is not None
    assert abs(found.nearer_to_training - 0.5) < 3.5 * found.nearer_to_training_error


def test_rows_off_the_data_are_no_copies() -> None:
    assert not judged(FRESH + 3 * normal(4000, seed=5), TRAINING, HELD_OUT).memorised


def test_unseen_rows_are_never_accused() -> None:
    """40 splits of each size; at one standard error a quarter of them would be."""
    accused, shares = 0, []
    for seed in range(40):
        for size in (50, 400):
            rows = normal(5 * size + 600, seed=100 + seed)
            found = judged(rows[5 * size :], rows[: 4 * size], rows[4 * size : 5 * size])
            accused += found.memorised
            assert found.nearer_to_training is not None
            assert found.nearer_to_training_error is not None
            shares.append((found.nearer_to_training - 0.5) / found.nearer_to_training_error)
    assert accused == 0
    assert np.std(shares) == pytest.approx(1, abs=0.25)  # the error is neither too small nor large


def test_where_nothing_is_known_to_be_unseen_a_copy_of_either_kind_counts() -> None:
    for source in (TRAINING, HELD_OUT):
        rows = np.concatenate([source[:200], FRESH[200:]])
        found = judged(rows, TRAINING, HELD_OUT, unseen=False)
        assert found.memorised
        assert found.nearer_to_training is None
        assert "nearer" not in found.evidence()
    assert not judged(FRESH, TRAINING, HELD_OUT, unseen=False).memorised


def test_copies_in_the_real_rows_are_no_fault_of_the_samples() -> None:
    """Where most unseen rows repeat training rows, samples may as well."""
    rows = np.random.default_rng(0).choice(TRAINING[:3000], 9000)
    training, held_out, fresh = np.split(rows, [4000, 5000])
    found = judged(fresh, training, held_out)
    assert found.median == 0
    assert not found.memorised

import numpy as np
import pytest
import torch

from synther.diffusion.norm import MinMaxNormalizer, Normalizer, normalizer_factory
from tests.diffusion.models import random_rows

pytestmark = pytest.mark.arithmetic

TYPES = ("standard", "minmax")


def test_standard_is_the_z_score_with_bessels_correction():
    rows = random_rows()
    wide = rows.astype(np.float64)
    expected = (wide - wide.mean(0)) / (wide.std(0, ddof=1) + 1e-5)
    found = Normalizer(rows).normalize(torch.from_numpy(rows))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_minmax_goes_to_minus_one_and_one():
    rows = random_rows()
    wide = rows.astype(np.float64)
    low, high = wide.min(0), wide.max(0) + 1e-5
    found = MinMaxNormalizer(rows).normalize(torch.from_numpy(rows))
    np.testing.assert_allclose(found, 2 * (wide - low) / (high - low) - 1, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", TYPES)
def test_round_trip(kind):
    rows = torch.from_numpy(random_rows())
    normalizer = normalizer_factory(kind, rows)
    back = normalizer.unnormalize(normalizer.normalize(rows))
    torch.testing.assert_close(back, rows, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", TYPES)
def test_skipped_columns_are_the_identity_to_the_bit(kind):
    """Fault of the 2023 release: min-max ignored skip_dims."""
    rows = torch.from_numpy(random_rows())
    rows[0, 2] = 1e-9
    normalizer = normalizer_factory(kind, rows, skip_dims=(2, -1))
    for found in (normalizer.normalize(rows), normalizer.unnormalize(rows)):
        assert torch.equal(found[:, [2, 9]], rows[:, [2, 9]])
        assert not torch.allclose(found[:, 3], rows[:, 3])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e4, 123456.0])
def test_constant_columns_do_not_blow_up(kind, value):
    rows = torch.full((50, 2), value)
    normalizer = normalizer_factory(kind, rows)
    normal = normalizer.normalize(rows)
    torch.testing.assert_close(normal, torch.full_like(rows, {"standard": 0, "minmax": -1}[kind]))
    torch.testing.assert_close(normalizer.unnormalize(normal), rows)
    # Samples anywhere in model space stay beside the constant.
    spread = normalizer.unnormalize(torch.linspace(-1, 1, 9)[:, None].expand(-1, 2))
    assert (spread - value).abs().max() <= 3e-6 * abs(value) + 2e-5


@pytest.mark.parametrize("kind", TYPES)
def test_arguments_are_left_alone(kind):
    rows, skip = torch.from_numpy(random_rows()), [-1]
    before = rows.clone()
    normalizer = normalizer_factory(kind, rows, skip)
    normalizer.unnormalize(normalizer.normalize(rows))
    assert torch.equal(rows, before)
    assert skip == [-1]


@pytest.mark.parametrize("kind", TYPES)
def test_reset_fits_other_data_in_place(kind):
    first, second = random_rows(seed=1), random_rows(seed=2)
    normalizer = normalizer_factory(kind, first, (-1,))
    held = next(normalizer.buffers())
    normalizer.reset(second)
    assert held is next(normalizer.buffers())
    for name, value in normalizer_factory(kind, second, (-1,)).state_dict().items():
        assert torch.equal(normalizer.state_dict()[name], value)


def test_state_names_are_those_of_the_file_format():
    assert set(Normalizer(random_rows()).state_dict()) == {"mean", "std"}
    assert set(MinMaxNormalizer(random_rows()).state_dict()) == {"min", "max"}


def test_statistics_are_taken_in_float64():
    """In float32 the variance of values near 1e5 is lost."""
    rows = (1e5 + np.random.default_rng(0).normal(size=(4000, 1)) * 0.5).astype(np.float32)
    assert float(Normalizer(rows).std) == pytest.approx(rows.astype(np.float64).std(), rel=1e-3)


@pytest.mark.parametrize("kind", TYPES)
def test_log_determinant_is_that_of_the_map(kind):
    normalizer = normalizer_factory(kind, random_rows(), (0,)).double()
    jacobian = torch.autograd.functional.jacobian(
        normalizer.normalize, torch.zeros(normalizer.dim, dtype=torch.float64)
    )
    found = normalizer.log_determinant(torch.zeros(3, normalizer.dim))
    assert found.shape == (3,)
    np.testing.assert_allclose(found, float(torch.logdet(jacobian)), rtol=1e-6)


def test_only_minmax_clamps_and_not_the_skipped_columns():
    rows = random_rows()
    wild = torch.full((1, rows.shape[1]), 7.0)
    assert torch.equal(Normalizer(rows).clamp(wild), wild)
    clamped = MinMaxNormalizer(rows, (4,)).clamp(wild)
    assert clamped[0, 4] == 7
    assert (clamped[0, [0, 1, 2, 3, 5, 6, 7, 8, 9]] == 1).all()


@pytest.mark.parametrize(
    ("data", "skip", "message"),
    [
        (np.zeros((0, 3)), (), "a row or more"),
        (np.zeros(3), (), "expected"),
        (np.array([[1.0, np.nan]]), (), "column 1"),
        (np.zeros((2, 3)), (3,), "column 3"),
    ],
)
def test_bad_arguments_are_named(data, skip, message):
    with pytest.raises(ValueError, match=message):
        Normalizer(data, skip)


def test_unknown_type():
    with pytest.raises(ValueError, match="standard or minmax or transitions"):
        normalizer_factory("zscore", random_rows())

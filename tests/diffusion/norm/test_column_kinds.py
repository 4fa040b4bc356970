"""Kinds and maps of columns against scipy and numpy in float64."""

import numpy as np
import pytest
import torch
from scipy import stats

from synther.diffusion.norm.column_kinds import Column, kind_of, map_of
from synther.diffusion.norm.tables import Pieces, decoder, encoder

RNG = np.random.default_rng(0)
ROWS = 4000


def float32(values):
    return np.asarray(values, np.float32)


def mixture(share, value, others):
    return np.where(RNG.random(len(others)) < share, value, others)


NORMAL = RNG.normal(size=ROWS)
EXAMPLES = {
    "constant": float32(np.full(ROWS, 465332.0)),
    "flag": float32(RNG.random(ROWS) < 0.0133),
    "counter": float32(np.arange(ROWS) % 100),
    "action": float32(np.tanh(2 * NORMAL)),
    "clipped velocity": float32(np.clip(3 * NORMAL, -6, 6)),
    "sparse reward": float32(mixture(0.9, 0.0, RNG.exponential(size=ROWS))),
    "position": float32(NORMAL),
    "heavy tail": float32(RNG.standard_t(3, ROWS)),
    "tiny spread": float32(1e-8 * NORMAL),
    "far away": float32(1e5 + NORMAL),
    "clipped heavy tail": float32(np.clip(RNG.standard_t(2, ROWS), -8, None)),
}
KINDS = {
    "constant": "constant",
    "flag": "discrete",
    "counter": "discrete",
    "action": "quantile",
    "clipped velocity": "quantile",
    "sparse reward": "mixed",
    "position": "standard",
    "heavy tail": "standard",
    "tiny spread": "standard",
    "far away": "standard",
    "clipped heavy tail": "mixed",
}


def fitted(values, kind=None, num_knots=256):
    column = Column.of(values)
    return map_of(column, kind or kind_of(column, num_knots), num_knots)


def through(function, table, points):
    row = torch.as_tensor(np.asarray(points, np.float64))[None]
    return Pieces.stack([function(table)], row)(row)[0].numpy()


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_has_its_kind(name):
    assert kind_of(Column.of(EXAMPLES[name]), 256) == KINDS[name]


def test_statistics_of_a_column():
    column = Column.of(float32([3, 1, 3, 2]))
    assert column.values.tolist() == [1, 2, 3]
    assert column.shares.tolist() == [0.25, 0.25, 0.5]
    assert (column.rows, column.mean) == (4, 2.25)
    assert column.std == pytest.approx(np.std([3, 1, 3, 2], ddof=1))


def test_the_spread_of_values_far_away_is_not_lost():
    wide = EXAMPLES["far away"].astype(np.float64)
    found = fitted(EXAMPLES["far away"])
    assert (found.offset, found.scale) == pytest.approx((wide.mean(), wide.std(ddof=1)), rel=1e-9)


@pytest.mark.parametrize("num_knots", [16, 256, 100_000])
def test_quantiles_are_those_of_the_normal_distribution(num_knots):
    """At every knot, against the midranks by scipy; in between within a knot's distance."""
    values = np.sort(EXAMPLES["action"])
    table = fitted(values, "quantile", num_knots).table
    ranks = stats.rankdata(values, method="average") - 0.5
    expected = stats.norm.ppf(ranks / ROWS)
    place = np.searchsorted(values, table.values.numpy())
    np.testing.assert_allclose(table.latents, expected[place], atol=1e-9)
    assert len(table.values) <= num_knots
    distance = 2 * np.abs(expected).max() / min(num_knots, ROWS) * 2
    found = through(encoder, table, values)
    assert np.abs(found - expected).max() < max(distance, 0.01)


def test_quantiles_end_where_the_data_end():
    values = EXAMPLES["action"]
    table = fitted(values, "quantile").table
    wild = through(decoder, table, [-1e9, -40, 40, 1e9])
    assert wild.tolist() == [values.min()] * 2 + [values.max()] * 2
    low, high = through(encoder, table, [-5.0, 5.0])
    assert (low, high) == (table.latents[0], table.latents[-1])
    assert -low == pytest.approx(stats.norm.ppf(1 - 0.5 / ROWS), rel=1e-9)


def test_a_gaussian_gives_atoms_as_often_as_the_data_do():
    """Shares are those of the cells under the normal distribution, exactly."""
    values = float32(mixture(0.2, 0.25, np.clip(NORMAL, -1, 0.8)))
    table = fitted(values, "quantile").table
    for atom in (-1.0, 0.25, float(np.float32(0.8))):
        cell = table.latents[table.values == atom].numpy()
        low = -np.inf if atom == values.min() else cell[0]
        high = np.inf if atom == values.max() else cell[1]
        share = stats.norm.cdf(high) - stats.norm.cdf(low)
        assert share == pytest.approx(np.mean(values == np.float32(atom)), abs=1e-9)
        assert through(decoder, table, cell.mean()[None]).item() == np.float32(atom)


def test_discrete_values_are_at_equal_distances_with_unit_spread():
    values = EXAMPLES["counter"]
    table = fitted(values).table
    latents = through(encoder, table, values.astype(np.float64))
    assert latents.mean() == pytest.approx(0, abs=1e-9)
    assert latents.std() == pytest.approx(1, abs=1e-9)
    assert np.ptp(np.diff(np.unique(latents))) < 1e-9
    noise = RNG.uniform(-0.49, 0.49, ROWS) * np.diff(np.unique(latents))[0]
    assert np.array_equal(through(decoder, table, latents + noise), values)
    assert set(through(decoder, table, 100 * NORMAL)) <= set(values.tolist())


def test_mixed_columns_have_a_cell_for_the_atom_and_are_straight_elsewhere():
    values = EXAMPLES["sparse reward"]
    table = fitted(values).table
    latents = through(encoder, table, values.astype(np.float64))
    assert latents.mean() == pytest.approx(0, abs=1e-9)
    assert latents.std() == pytest.approx(1, abs=1e-3)
    positive = np.sort(values[values > 0]).astype(np.float64)
    slopes = np.diff(through(encoder, table, positive)) / np.diff(positive)
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6)
    assert slopes[0] == pytest.approx(1 / table.above)
    assert table.below == 0  # no reward is less than the atom at the end
    spread = latents[values == 0][0] + np.linspace(-0.2, 0.2, 9) / np.std(values) * table.above
    assert (through(decoder, table, spread) == 0).all()


def test_the_commonest_values_are_the_atoms_where_there_are_too_many():
    values = float32(np.repeat(np.arange(500), np.arange(500) + 1))
    table = fitted(values, "quantile", num_knots=64).table
    assert len(table.values) <= 64
    atoms = table.values[:-1][table.values.diff() == 0]
    assert set(range(485, 500)) <= set(atoms.tolist())


def test_too_many_values_for_a_discrete_column_are_named():
    with pytest.raises(ValueError, match="4000 distinct values, with num_knots 256 a discrete col"):
        fitted(EXAMPLES["position"], "discrete")

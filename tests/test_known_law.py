"""The data set of ``benchmarks/known_law.py`` obeys the moments that it states."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from synther.diffusion.norm import TransitionSpace
from synther.transitions import TransitionLayout

FILE = Path(__file__).parents[1] / "benchmarks/known_law.py"
ROWS = 20_000


@pytest.fixture(scope="module")
def law():
    spec = importlib.util.spec_from_file_location("known_law", FILE)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(law):
    return law.collect(ROWS, seed=1)


def wide(data):
    return data.observations.astype(np.float64), data.actions.astype(np.float64)


def test_residuals_are_standard_normal(law, data):
    """Kolmogorov-Smirnov, four columns, at 0.1 % each; and not if the noise were a tenth less."""
    for name, values in law.residuals(data).items():
        assert stats.kstest(values, "norm").pvalue > 1e-3, name
        assert stats.kstest(0.9 * values, "norm").pvalue < 1e-3, name


@pytest.mark.parametrize("flag", ["contact", "terminal"])
def test_probabilities_of_flags_are_calibrated(law, data, flag):
    """In ten classes of the predicted probability, and over all rows: within 4 standard errors."""
    mean, std = law.conditional_mean(*wide(data)), law.conditional_std(*wide(data))
    if flag == "contact":
        predicted, seen = mean.next_observations[:, 3], data.next_observations[:, 3]
        spread = std.next_observations[:, 3]
    else:
        predicted, seen, spread = mean.terminals, data.terminals, std.terminals
    np.testing.assert_allclose(spread, np.sqrt(predicted * (1 - predicted)))
    for rows in np.array_split(np.argsort(predicted), 10):
        error = np.sqrt(np.sum(spread[rows] ** 2)) / len(rows)
        assert abs(seen[rows].mean() - predicted[rows].mean()) <= 4 * error + 1e-9


def test_it_has_what_it_is_for(law, data):
    """Atoms at the bounds of actions, flags, terminals, noise that depends on the state."""
    assert (np.mean(np.abs(data.actions) == 1, axis=0) > 0.05).all()
    assert 0.05 < data.observations[:, 3].mean() < 0.2
    assert 0.01 < data.terminals.mean() < 0.03
    assert law.inconsistent_flags(data) == 0
    spread = law.conditional_std(*wide(data))
    assert np.ptp(np.log(spread.rewards)) > 1
    kinds = TransitionSpace(
        TransitionLayout.of(data).pack(data), layout=TransitionLayout.of(data)
    ).column_kinds
    assert [kinds[name] for name in ("observations[3]", "actions[0]", "terminals")] == [
        "discrete", "quantile", "discrete",
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_rows(law, data):
    again, other = law.collect(ROWS, seed=1), law.collect(ROWS, seed=2)
    for name, values in data.arrays().items():
        assert np.array_equal(again.arrays()[name], values)
    assert not np.array_equal(other.observations, data.observations)

"""Limits that follow from counting, against exact laws."""

import numpy as np
import pytest
from scipy import stats

from synther.diffusion.fidelity import limits

pytestmark = pytest.mark.arithmetic


def test_standard_errors_are_those_of_the_chance_of_a_false_alarm() -> None:
    for comparisons in (1, 60):
        beyond = 2 * comparisons * stats.norm.sf(limits.standard_errors(comparisons))
        assert beyond == pytest.approx(limits.FALSE_ALARM)


@pytest.mark.parametrize(("n", "m"), [(50, 5000), (1000, 1000)])
def test_the_kolmogorov_smirnov_limit_is_kept_but_for_that_chance(n: int, m: int) -> None:
    limit = limits.kolmogorov_smirnov(n, m, comparisons=10)
    chance = 10 * stats.kstwobign.sf(limit * np.sqrt(n * m / (n + m)))
    assert chance == pytest.approx(limits.FALSE_ALARM, rel=0.05)


@pytest.mark.parametrize("rate", [0.0005, 0.0133, 0.3])
@pytest.mark.parametrize(("n", "m"), [(200, 5000), (3000, 5000), (30_000, 10_000)])
def test_counts_of_one_rate_stay_between_the_limits(rate: float, n: int, m: int) -> None:
    """The exact chance, summed over both binomial laws, that a rate is accused."""
    counts = np.arange(stats.binom.ppf(1e-7, n, rate), stats.binom.isf(1e-7, n, rate) + 2)
    chance = 0.0
    for count, weight in zip(counts, stats.binom.pmf(counts, n, rate), strict=True):
        low, high = limits.shares(int(count), n, m)
        tail = stats.binom.sf(np.floor(high * m), m, rate)
        tail += stats.binom.cdf(np.ceil(low * m) - 1, m, rate)
        chance += weight * tail
    assert chance < 2 * limits.FALSE_ALARM


def test_tolerated_odds_widen_the_limits_and_shares_of_one_half_mirror() -> None:
    low, high = limits.shares(500, 1000, 10**9, odds=1.5)
    assert low == pytest.approx(1 - high, abs=1e-3)
    narrow = limits.shares(500, 1000, 10**9)
    assert low < narrow[0] < 0.5 < narrow[1] < high
    exact = limits.shares(10**8, 10**9, 10**9, odds=1.5)  # odds 1 / 9 become 1 / 6 and 2 / 27
    assert exact == pytest.approx((2 / 29, 1 / 7), abs=1e-3)
    assert limits.shares(0, 50, 50)[0] == 0
    assert limits.shares(50, 50, 50)[1] == 1

import math

import pytest
import torch

from synther.diffusion.generation.terminal_rate import MOST_THINNED, probe_rows, thinned


@pytest.mark.parametrize(
    ("rate", "count"),
    [(0.0, 2048), (1.0, 2048), (math.nan, 2048), (0.5, 2048), (0.05, 18_000), (1e-3, 65_536)],
)
def test_a_probe_has_terminals_enough(rate, count):
    assert probe_rows(rate) == count


@pytest.mark.parametrize(("found", "rate"), [(700, 1000), (1400, 1000), (9_300, 9_500)])
def test_what_is_left_has_the_rate(found, rate):
    """Of 10 000 rows."""
    without, ended = thinned(torch.arange(10_000) < found, rate / 10_000)
    kept = found * (1 - ended)
    assert kept / (kept + (10_000 - found) * (1 - without)) == pytest.approx(rate / 10_000)
    assert min(without, ended) == 0 < max(without, ended)


@pytest.mark.parametrize(
    ("found", "rate"),
    [(0, 0.1), (10_000, 0.1), (500, 0.0), (500, 1.0), (500, math.nan), (1_020, 0.1)],
)
def test_nothing_is_drawn_again_where_nothing_would_help_or_is_amiss(found, rate):
    assert thinned(torch.arange(10_000) < found, rate) == (0, 0)
    assert thinned(torch.zeros(0, dtype=torch.bool), rate) == (0, 0)


def test_no_more_than_half_is_drawn_again():
    assert thinned(torch.arange(10_000) < 10, 0.5) == (MOST_THINNED, 0)
    assert thinned(torch.arange(10_000) < 9_990, 0.5) == (0, MOST_THINNED)

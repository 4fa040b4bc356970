"""A data set's features are what its rows say."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from synther.advise import features as described
from synther.advise.features import Features, describe, pilot_figures
from synther.datasets import load_dataset
from synther.transitions import Transitions

SMALL_PILOT = {**described.PILOT, "width": 16, "num_layers": 1, "steps": 20}


def chain(returns: list[list[float]], terminal: list[bool]) -> Transitions:
    """Episodes of one observation column that counts up, with these rewards."""
    rewards = np.concatenate([np.array(each) for each in returns])
    lengths = [len(each) for each in returns]
    starts = np.concatenate([100.0 * number + np.arange(n) for number, n in enumerate(lengths)])
    ends = np.cumsum(lengths) - 1
    terminals, timeouts = np.zeros(len(rewards)), np.zeros(len(rewards))
    terminals[ends], timeouts[ends] = terminal, np.logical_not(terminal)
    return Transitions(
        starts[:, None], rewards[:, None] / 10, rewards, starts[:, None] + 1, terminals,
        timeouts=timeouts,
    )  # fmt: skip


def test_features_are_counted_from_the_rows() -> None:
    data = chain([[0, 0, 1], [0, 0, 0, 3], [0, 5]], [True, False, False])
    found = describe(data)
    returns = np.array([1.0, 3.0, 5.0])
    assert (found.rows, found.columns, found.episodes) == (9, 4, 3)
    assert found.return_spread == pytest.approx(returns.std() / (3 + returns.std()))
    assert found.terminal_rate == pytest.approx(1 / 9)
    assert found.sparsity == pytest.approx(6 / 9)


def test_rows_in_no_order_have_no_episodes() -> None:
    data = load_dataset("hopper-demo-v0")
    shuffled = data.subset(np.random.default_rng(0).permutation(len(data))[:500])
    found = describe(shuffled)
    assert found.episodes is None
    assert found.return_spread is None
    assert "episodes" not in found.place()


def test_units_are_those_that_are_stated() -> None:
    one = Features(1000, 20, 10, 0.25, 0.01, 0.5, 1.5, 0.75)
    steps = {
        "rows": replace(one, rows=3000), "columns": replace(one, columns=40),
        "episodes": replace(one, episodes=100), "return_spread": replace(one, return_spread=0.5),
        "terminal_rate": replace(one, terminal_rate=0.1), "sparsity": replace(one, sparsity=0.75),
        "pilot_error": replace(one, pilot_error=3.0),
        "pilot_difference": replace(one, pilot_difference=1.0),
    }  # fmt: skip
    assert one.place().keys() == steps.keys()
    for name, other in steps.items():
        moved = {key: other.place()[key] - value for key, value in one.place().items()}
        assert moved == pytest.approx({key: float(key == name) for key in moved})
    for unknown in (None, 0.0, math.nan, math.inf):
        assert "pilot_error" not in replace(one, pilot_error=unknown).place()
    never = replace(one, terminal_rate=0.0).place()["terminal_rate"]
    assert never == pytest.approx(math.log10(described.RATE_FLOOR))


def test_features_come_back_from_plain_values() -> None:
    found = Features(1000, 20, None, None, 0.01, 0.5, 1.5)
    assert Features.from_plain(found.to_plain()) == found


def test_the_rows_that_a_pilot_does_not_see_are_not_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, seen, sizes = load_dataset("hopper-demo-v0").subset(slice(3000)), [], []
    expected = data.split(600 / 3000, 5)[1]
    subset = Transitions.subset

    def counted(self: Transitions, rows: Any) -> Transitions:
        found = subset(self, rows)
        sizes.append(len(found))
        return found

    def learn(part: Transitions, *_: Any) -> tuple[None, SimpleNamespace]:
        seen.append(part)
        return None, SimpleNamespace(numbers={})

    monkeypatch.setattr(described, "PILOT_ROWS", 600)
    monkeypatch.setattr(described, "learn", learn)
    monkeypatch.setattr(Transitions, "subset", counted)
    assert pilot_figures(data, seed=5, device="cpu") == {}
    assert max(sizes) == 600
    assert np.array_equal(seen[0].observations, expected.observations)


def test_a_pilot_is_judged_on_a_part_of_the_rows(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    monkeypatch.setattr(described, "PILOT", SMALL_PILOT)
    monkeypatch.setattr(described, "PILOT_ROWS", 600)
    figures = pilot_figures(load_dataset("hopper-demo-v0"), device="cpu")
    # Twenty steps teach nothing: what follows is far off, and a classifier sees it at once.
    assert figures["pilot_error"] > 1
    assert 0.7 < figures["pilot_difference"] <= 1
    # Nobody is to use the pilot's samples, and so nobody is warned of them.
    assert "trusted" not in capsys.readouterr().err
    assert not [each for each in recwarn if "trusted" in str(each.message)]

"""Baselines: noise of the size that was asked for, and tables out of libraries where installed."""

import re
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from synther.diffusion.fidelity import baselines
from synther.diffusion.fidelity.baselines import MissingBaselineError, make_baseline, parse_baseline
from synther.diffusion.fidelity.report import compare
from synther.installed import install_hint
from synther.transitions import Transitions
from tests.data import random_transitions

DATA = random_transitions(2000)


def matched(made: Transitions) -> tuple[Transitions, Transitions]:
    """Made rows and the real ones they come from: their actions are the same, and unlike others."""
    return tuple(rows.subset(np.argsort(rows.actions[:, 0])) for rows in (made, DATA))  # type: ignore[return-value]


def test_noise_has_the_given_share_of_the_standard_deviation() -> None:
    made, source = matched(make_baseline("noise=0.3", DATA, len(DATA)))
    for name in ("observations", "next_observations"):
        added = getattr(made, name) - getattr(source, name)
        expected = 0.3 * getattr(DATA, name).std(axis=0)
        np.testing.assert_allclose(added.std(axis=0), expected, rtol=0.06)
        np.testing.assert_allclose(added.mean(axis=0), 0, atol=0.03)
    for name in ("actions", "rewards", "terminals"):
        np.testing.assert_array_equal(getattr(made, name), getattr(source, name))


def test_multiplicative_noise_stays_within_its_level() -> None:
    made, source = matched(make_baseline("multiplicative=0.2", DATA, len(DATA)))
    factors = made.observations / source.observations
    assert factors.min() > 0.8 - 1e-3
    assert factors.max() < 1.2 + 1e-3
    assert factors.std() == pytest.approx(0.4 / np.sqrt(12), rel=0.05)
    np.testing.assert_array_equal(made.actions, source.actions)


@pytest.mark.parametrize("count", [10, 5000])
def test_as_many_rows_as_wanted_the_same_for_the_same_seed(count: int) -> None:
    first, second, other = (make_baseline("noise", DATA, count, seed=seed) for seed in (1, 1, 2))
    assert len(first) == count
    np.testing.assert_array_equal(first.observations, second.observations)
    assert (first.observations != other.observations).any()


@pytest.mark.parametrize("name", ["nois", "gmm=3", "noise=0", "noise=x", "noise=-1", ""])
def test_unknown_baselines_are_refused_with_the_list(name: str) -> None:
    with pytest.raises(ValueError, match=f"baseline '{name}': expected one of noise, multiplic"):
        parse_baseline(name)


@pytest.mark.parametrize(
    ("name", "module"), [("gmm", "sklearn.mixture"), ("vae", "ctgan"), ("ctgan", "ctgan")]
)
def test_a_missing_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingBaselineError, match=re.escape(install_hint("baselines"))):
        make_baseline(name, DATA, 5)


@pytest.mark.parametrize("terminals", [True, False])
def test_tables_of_a_library_become_transitions(
    monkeypatch: pytest.MonkeyPatch, terminals: bool
) -> None:
    """With a stand-in for the library that gives its training table back, beyond all bounds."""
    seen: dict[str, Any] = {}

    class Model:
        def __init__(self, epochs: int, verbose: bool) -> None:
            seen["epochs"] = epochs

        def set_random_state(self, seed: int) -> None:
            seen["seed"] = seed

        def fit(self, table: np.ndarray, discrete_columns: list[int]) -> None:
            self.table = table
            seen["discrete"] = discrete_columns

        def sample(self, count: int) -> np.ndarray:
            return (self.table[:count] * 1.5).astype(object)

    monkeypatch.setitem(sys.modules, "ctgan", SimpleNamespace(TVAE=Model))
    made = make_baseline("vae", DATA, 50, seed=3, terminals=terminals, epochs=7)
    assert seen == {"epochs": 7, "seed": 3, "discrete": [9] if terminals else []}
    np.testing.assert_allclose(made.observations, 1.5 * DATA.observations[:50], rtol=1e-6)
    np.testing.assert_allclose(made.actions, (1.5 * DATA.actions[:50]).clip(-1, 1), rtol=1e-6)
    expected = DATA.terminals[:50] if terminals else np.zeros(50)
    np.testing.assert_array_equal(made.terminals, expected)


def test_a_gaussian_mixture_of_gaussian_rows_is_like_them() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(2000, 3)) * [0.1, 1, 10] + 5
    linked = Transitions.from_arrays(
        DATA.arrays() | {"observations": observations, "next_observations": observations[:, ::-1]}
    )
    made = make_baseline("gmm", linked, 3000)
    scores = compare(linked, made)
    assert scores.marginal > 0.95
    assert scores.correlation > 0.97
    again = make_baseline("gmm", linked, 3000)
    np.testing.assert_array_equal(made.observations, again.observations)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae", "ctgan"])
def test_the_library_takes_rows_and_gives_rows(name: str) -> None:
    pytest.importorskip("ctgan")
    made = make_baseline(name, random_transitions(600, 1, 1), 200, epochs=1)
    assert len(made) == 200
    assert np.abs(made.actions).max() <= 1


def test_a_models_actions_keep_to_the_bounds_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_transitions(300, 2, 1)
    bounds = {"action_low": -3, "action_high": 3}
    monkeypatch.setitem(baselines._MODELS, "gmm", lambda table, *_: 10 * table)  # type: ignore
    made = make_baseline("gmm", replace(rows, actions=3 * rows.actions, metadata=bounds), 300)
    np.testing.assert_allclose(made.actions, np.clip(30 * rows.actions, -3, 3), rtol=1e-6)

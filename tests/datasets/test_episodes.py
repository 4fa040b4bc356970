"""Where episodes end: told by time-outs where they are known, by the rows elsewhere, or refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synther.corl.shared.normalizers import RewardNormalizer
from synther.datasets import as_transitions, load_dataset
from synther.datasets.episodes import episode_ends, episode_returns
from synther.datasets.hdf5_writer import write_hdf5
from synther.transitions import FIELDS, TransitionError, Transitions
from tests.data import random_transitions
from tests.integrations.rows import assert_equal, chained


def standing_still(lengths: list[int], terminated: list[bool] | None = None) -> Transitions:
    """Episodes that begin with the very observation that the one before ended with."""
    rows = sum(lengths)
    last = np.cumsum(lengths) - 1
    terminals, timeouts = np.zeros(rows), np.zeros(rows, bool)
    terminals[last] = terminated or [False] * len(lengths)
    timeouts[last] = terminals[last] == 0
    still = np.ones((rows, 2))
    return Transitions(
        still, np.zeros((rows, 1)), np.arange(rows) + 1.0, still, terminals, timeouts=timeouts
    )


def sums(data: Transitions, lengths: list[int]) -> list[float]:
    stops = np.cumsum(lengths)
    starts = stops - lengths
    return [float(data.rewards[a:b].sum()) for a, b in zip(starts, stops, strict=True)]


@given(
    episodes=st.lists(st.tuples(st.integers(2, 9), st.booleans()), min_size=1, max_size=8),
    way=st.sampled_from(["memory", "npz", "hdf5", "mapping"]),
)
@settings(max_examples=30)
def test_known_time_outs_tell_episodes_apart_whatever_is_observed(
    tmp_path_factory: pytest.TempPathFactory, episodes: list[tuple[int, bool]], way: str
) -> None:
    lengths, terminated = [length for length, _ in episodes], [end for _, end in episodes]
    data = standing_still(lengths, terminated)
    path = tmp_path_factory.mktemp("episodes")
    if way == "npz":
        loaded = load_dataset(data.save(path / "data.npz"))
    elif way == "hdf5":
        loaded = load_dataset(
            write_hdf5(path / "data.hdf5", data, data.timeouts), terminate_on_end=True
        )
    else:
        mapping = {**data.arrays(), "timeouts": data.timeouts}
        loaded = data if way == "memory" else as_transitions(mapping)
    np.testing.assert_array_equal(np.flatnonzero(episode_ends(loaded)) + 1, np.cumsum(lengths))
    np.testing.assert_allclose(episode_returns(loaded, 9), sums(data, lengths))


@given(chained())
def test_where_they_are_not_known_an_episode_ends_where_rows_do_not_continue(
    transitions: Transitions,
) -> None:
    lengths = transitions.metadata["lengths"]
    ends = np.cumsum(lengths) - 1
    cut_off = ends[:-1][transitions.terminals[ends[:-1]] == 0]
    going_on = max(1, int((transitions.terminals[:-1] == 0).sum()))
    if len(cut_off) > going_on / 3:
        with pytest.raises(TransitionError, match=f"{len(cut_off)} break off"):
            episode_returns(transitions)
        return
    returns = episode_returns(transitions)
    expected = sums(transitions, lengths)
    longest = max([lengths[i] for i in range(len(lengths) - 1) if ends[i] in cut_off], default=0)
    if not transitions.terminals[-1] and lengths[-1] != longest:
        expected = expected[:-1]  # still under way, as far as anybody knows
    np.testing.assert_allclose(returns, expected, atol=1e-6)


def test_time_outs_that_are_left_out_leave_their_episodes_ends(tmp_path: Path) -> None:
    data = standing_still([4, 3, 5], [False, True, False])
    path = write_hdf5(tmp_path / "data.hdf5", data, data.timeouts)
    loaded = load_dataset(path)
    assert len(loaded) == 10
    assert np.flatnonzero(episode_ends(loaded)).tolist() == [2, 5, 9]
    assert loaded.timeouts is not None
    assert np.flatnonzero(loaded.timeouts).tolist() == [2, 9]


def test_rows_in_no_order_and_synthetic_ones_have_no_returns() -> None:
    whole = load_dataset("hopper-demo-v0")
    episodes = whole.metadata["episode_return"]
    returns = episode_returns(whole, 1000)
    assert [returns.min().round(1), returns.max().round(1)] == [episodes["min"], episodes["max"]]
    _, some = whole.split(0.5, seed=0)
    for rows in (some, whole.subset(np.random.default_rng(0).permutation(len(whole)))):
        with pytest.raises(TransitionError, match="do not lie in the order of their episodes"):
            episode_returns(rows)
    samples = dataclasses.replace(random_transitions(), metadata={"source": "SynthER"})
    with pytest.raises(TransitionError, match="they are synthetic"):
        episode_returns(samples)


def test_returns_of_episodes_with_rows_missing_are_warned_of() -> None:
    whole = load_dataset("hopper-demo-v0")
    some = whole.subset(np.flatnonzero(np.random.default_rng(0).random(len(whole)) < 0.95))
    with pytest.warns(UserWarning, match=r"rows break off.*give all rows of the episodes"):
        episode_returns(some, 1000)
    with pytest.warns(UserWarning, match="rows break off"):
        RewardNormalizer.of(some, "hopper-medium-v2", 1000)


def test_an_episode_longer_than_the_limit_is_refused_where_nobody_says_where_it_ended() -> None:
    known = standing_still([5, 5, 5])
    unknown = Transitions(**known.arrays())
    message = "from row 0 on 15 rows continue each other, but an episode has at most 5 steps"
    with pytest.raises(TransitionError, match=re.escape(message)):
        episode_returns(unknown, 5)
    assert len(episode_returns(known, 5)) == 3
    assert len(episode_returns(known, 4)) == 3  # recorded with another limit
    assert len(episode_returns(unknown)) == 0  # one stretch of rows, perhaps still under way


def test_time_outs_travel_and_are_checked() -> None:
    data = standing_still([3, 4], [True, False])
    assert data.timeouts is not None
    assert np.flatnonzero(data.timeouts).tolist() == [6]
    flags = np.zeros(7)
    flags[[2, 6]] = 1
    both = Transitions(**data.arrays(), timeouts=flags)  # a terminal is no time-out
    np.testing.assert_array_equal(both.timeouts, data.timeouts)
    np.testing.assert_array_equal(data.subset(slice(2, 7)).timeouts, data.timeouts[2:])
    assert data.subset(np.arange(7)).timeouts is None
    assert data.subset(slice(None, None, 2)).timeouts is None
    twice = Transitions.concatenate([data.subset(slice(0, 5)), data])
    assert np.flatnonzero(twice.timeouts).tolist() == [4, 11]
    assert Transitions.concatenate([data, Transitions(**data.arrays())]).timeouts is None
    with pytest.raises(TransitionError, match="'timeouts' has 6 rows"):
        Transitions(**data.arrays(), timeouts=flags[:6])
    with pytest.raises(TransitionError, match=r"'timeouts' in row 1 is 0\.5"):
        Transitions(**data.arrays(), timeouts=np.where(np.arange(7) == 1, 0.5, 0))


def test_five_arrays_are_still_all_that_a_file_needs(tmp_path: Path) -> None:
    data = random_transitions()
    path = data.save(tmp_path / "data.npz")
    with np.load(path) as file:
        assert set(file.files) == set(FIELDS)
    assert_equal(load_dataset(path), data)
    assert load_dataset(path).timeouts is None

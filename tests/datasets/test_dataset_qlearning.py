"""Rows to transitions: against d4rl's own recorded output, and against a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synther.datasets import load_dataset
from synther.datasets.files import EpisodeRows, read_hdf5
from synther.datasets.qlearning import to_transitions
from synther.transitions import FIELDS, TransitionError

UNKNOWABLE = 1e9
SAMPLES = ["hopper-random-v2", "halfcheetah-random-v2"]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("terminate_on_end", [False, True])
def test_equal_to_what_d4rl_returned(golden, name, terminate_on_end):
    rows = read_hdf5(golden / f"{name}.sample.hdf5")
    ours = to_transitions(rows, d4rl_exact=True, terminate_on_end=terminate_on_end)
    recorded = np.load(golden / f"{name}.qlearning.npz")
    if terminate_on_end:  # the same, and the time-outs between
        assert len(ours) == len(rows) - 1
        ours = ours.subset(~rows.timeouts[:-1])
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(ours, field), recorded[field])


def test_rows_take_the_files_next_observation_and_nothing_else_changes(golden):
    rows = read_hdf5(golden / "hopper-random-v2.sample.hdf5")
    exact, ours = to_transitions(rows, d4rl_exact=True), to_transitions(rows)
    assert not (rows.terminals | rows.timeouts)[-1]
    assert len(ours) == len(exact) + 1  # the last row, whose successor the file knows
    np.testing.assert_array_equal(ours.next_observations, rows.next_observations[~rows.timeouts])
    ours = ours.subset(slice(len(exact)))
    ends = ours.terminals == 1
    for field in FIELDS:
        a, b = getattr(exact, field), getattr(ours, field)
        keep = ~ends if field == "next_observations" else slice(None)
        np.testing.assert_array_equal(a[keep], b[keep])
    # Hopper ends where its height falls to 0.7 or its angle leaves 0.2; episodes start upright at
    # 1.25. The physics knows which of the two next observations is the real one.
    height, angle = ours.next_observations[ends, 0], ours.next_observations[ends, 1]
    assert ((height <= 0.7) | (np.abs(angle) >= 0.2)).all()
    np.testing.assert_allclose(exact.next_observations[ends, 0], 1.25, atol=0.01)


def rows_of(**arrays: Any) -> EpisodeRows:
    """Rows whose observation is their own number."""
    length = len(arrays["terminals"])
    numbers = np.arange(length, dtype=np.float32)
    defaults: dict[str, Any] = {
        "observations": numbers[:, None],
        "actions": -numbers[:, None],
        "rewards": numbers / 2,
        "timeouts": None,
        "next_observations": None,
    }
    return EpisodeRows(**{**defaults, **arrays}, source="rows")


@pytest.mark.parametrize("pattern", range(24))
def test_keeps_the_rows_that_d4rl_kept_with_time_outs_recorded_or_counted(golden, pattern):
    with np.load(golden / "qlearning_rows.npz") as file:
        get = {
            key.split("_", 1)[1]: file[key]
            for key in file.files
            if key.startswith(f"{pattern:02d}_")
        }
    terminate_on_end, max_episode_steps = get["options"]
    ours = to_transitions(
        rows_of(terminals=get["terminals"], timeouts=get.get("timeouts")),
        d4rl_exact=True,
        terminate_on_end=bool(terminate_on_end),
        max_episode_steps=int(max_episode_steps),
    )
    np.testing.assert_array_equal(ours.observations[:, 0], get["rows"])
    np.testing.assert_array_equal(ours.actions[:, 0], -get["rows"])
    np.testing.assert_array_equal(ours.rewards, get["rows"] / 2)
    np.testing.assert_array_equal(ours.next_observations[:, 0], get["rows"] + 1)
    np.testing.assert_array_equal(ours.terminals, get["terminals"][get["rows"]])


def loop(rows: EpisodeRows, *, exact: bool, keep_timeouts: bool, limit: int) -> list[tuple]:
    """What ``to_transitions`` promises, said as plainly as possible, one row at a time."""
    out = []
    step = 0
    recorded = rows.next_observations is not None and not exact
    for i in range(len(rows)):
        end_of_time = step == limit - 1 if rows.timeouts is None else bool(rows.timeouts[i])
        terminal = bool(rows.terminals[i])
        step += 1
        if end_of_time and not keep_timeouts and (exact or not terminal):
            step = 0
            continue
        if i == len(rows) - 1 and not (recorded or (terminal and not exact)):
            continue
        following = rows.observations[min(i + 1, len(rows) - 1)]
        if recorded:
            following = rows.next_observations[i]
        elif end_of_time and not terminal and not exact:
            following = [UNKNOWABLE]
        if terminal or end_of_time:
            step = 1 if exact else 0
        out.append(
            (*rows.observations[i], *rows.actions[i], rows.rewards[i], *following, float(terminal))
        )
    return out


@st.composite
def patterns(draw: st.DrawFn) -> dict[str, Any]:
    length = draw(st.integers(2, 40))
    flags = st.lists(st.booleans(), min_size=length, max_size=length).map(
        lambda values: np.array(values, bool)
    )
    return {
        "terminals": draw(flags),
        "timeouts": draw(st.none() | flags),
        "next_observations": draw(
            st.sampled_from([None, -1.5 - np.arange(length, dtype=np.float32)[:, None]])
        ),
    }


@given(patterns(), st.booleans(), st.booleans(), st.integers(1, 12))
def test_any_pattern_agrees_with_the_loop(arrays, exact, keep_timeouts, limit):
    rows = rows_of(**arrays)
    options = {"d4rl_exact": exact, "terminate_on_end": keep_timeouts, "max_episode_steps": limit}
    expected = loop(rows, exact=exact, keep_timeouts=keep_timeouts, limit=limit)
    if not expected:
        with pytest.raises(TransitionError, match="no transition is left"):
            to_transitions(rows, **options)
        return
    if UNKNOWABLE in [row[-2] for row in expected]:
        with pytest.raises(TransitionError, match="does not say what followed"):
            to_transitions(rows, **options)
        return
    ours = to_transitions(rows, **options)
    found = np.column_stack([getattr(ours, field) for field in FIELDS])
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


@given(
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=2, max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_no_transition_crosses_from_one_episode_to_the_next(episodes, recorded, keep_timeouts):
    """Observations are (episode, step), so the successor of each is known: the step after it.

    An episode ends in a terminal after its length, or is cut off at step 6.
    """
    observations, terminals, timeouts = [], [], []
    for number, (length, terminal) in enumerate(episodes):
        length = length if terminal else 6
        for step in range(length):
            observations.append((number, step))
            terminals.append(terminal and step == length - 1)
            timeouts.append(not terminal and step == length - 1)
    numbers = np.array(observations, np.float32)
    rows = rows_of(
        observations=numbers,
        terminals=np.array(terminals),
        timeouts=np.array(timeouts) if recorded else None,
        next_observations=numbers + np.array([0, 1], np.float32),
    )
    ours = to_transitions(rows, terminate_on_end=keep_timeouts, max_episode_steps=6)
    np.testing.assert_array_equal(ours.next_observations - ours.observations, [[0, 1]] * len(ours))
    if keep_timeouts:
        assert len(ours) == len(rows)


def test_kept_time_outs_are_never_terminals():
    rows = rows_of(
        terminals=np.zeros(6, bool),
        timeouts=np.array([0, 0, 1, 0, 0, 0], bool),
        next_observations=np.full((6, 1), 9, np.float32),
    )
    ours = to_transitions(rows, terminate_on_end=True)
    assert ours.terminals.tolist() == [0] * 6
    assert ours.next_observations[:, 0].tolist() == [9] * 6


def test_kept_time_out_without_a_recorded_successor_is_refused():
    rows = rows_of(terminals=np.zeros(6, bool), timeouts=np.array([0, 0, 1, 0, 1, 0], bool))
    with pytest.raises(TransitionError, match=r"time-out in row 2.*d4rl_exact"):
        to_transitions(rows, terminate_on_end=True)


def test_missing_time_outs_need_the_time_limit_or_the_files_own_next_observations():
    flags = {"terminals": np.zeros(6, bool)}
    with pytest.raises(TransitionError, match=r"rows: has neither 'timeouts'.*max_episode_steps"):
        to_transitions(rows_of(**flags))
    recorded = 10 + np.arange(6, dtype=np.float32)[:, None]
    ours = to_transitions(rows_of(**flags, next_observations=recorded))
    np.testing.assert_array_equal(ours.next_observations, recorded)
    with pytest.raises(TransitionError, match="max_episode_steps"):
        to_transitions(rows_of(**flags, next_observations=recorded), d4rl_exact=True)


def test_what_the_message_on_missing_time_outs_advises_works(write_hdf5, tmp_path, monkeypatch):
    path = write_hdf5(timeouts=None, next_observations=None)
    with pytest.raises(TransitionError) as refused:
        load_dataset(path)
    advice = str(refused.value).split("use the result: ")[1]
    monkeypatch.chdir(tmp_path)
    eval(advice.replace("=N", "=7"), {"load_dataset": load_dataset})
    assert len(load_dataset("cut.npz")) == 20 - 2  # rows 12 and 19; row 5 is a terminal


def test_next_observations_are_checked_wherever_they_are_used():
    recorded = np.arange(6, dtype=np.float32)[:, None]
    recorded[1] = np.nan
    arrays = {"terminals": np.zeros(6, bool), "timeouts": np.array([0, 1, 0, 0, 0, 0], bool)}
    ours = to_transitions(rows_of(**arrays, next_observations=recorded))  # row 1 is left out
    assert ours.next_observations[:, 0].tolist() == [0, 2, 3, 4, 5]
    recorded[3] = np.inf
    with pytest.raises(TransitionError, match=r"'next_observations'.*row 3"):
        to_transitions(rows_of(**arrays, next_observations=recorded))


def test_a_selection_of_rows_keeps_what_followed_each(write_hdf5):
    rng = np.random.default_rng(0)
    path = write_hdf5(terminals=np.zeros(20, bool), timeouts=np.zeros(20, bool))
    rows, some = read_hdf5(path), rng.choice(20, 7, replace=False)
    chosen = {key: getattr(rows, key)[some] for key in (*FIELDS, "timeouts")}
    loaded = load_dataset(write_hdf5("some.hdf5", **chosen))
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(loaded, field), chosen[field], err_msg=field)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("keep_timeouts", [True, False])
def test_a_terminal_that_is_also_a_time_out_or_ends_the_file_is_kept(recorded, keep_timeouts):
    ends = np.array([0, 0, 1, 0, 0, 1], bool)
    numbers = np.arange(6, dtype=np.float32)[:, None]
    ours = to_transitions(
        rows_of(
            terminals=ends,
            timeouts=ends,
            rewards=100.0 * ends,
            next_observations=numbers + 0.5 if recorded else None,
        ),
        terminate_on_end=keep_timeouts,
    )
    assert ours.terminals.tolist() == ends.tolist()
    assert ours.rewards.sum() == 200
    # Without a record, the row's own observation stands for what followed the last one.
    expected = [0.5, 1.5, 2.5, 3.5, 4.5, 5.5] if recorded else [1, 2, 3, 4, 5, 5]
    assert ours.next_observations[:, 0].tolist() == expected


def test_a_time_limit_that_falls_on_a_terminal_leaves_it_one():
    ours = to_transitions(rows_of(terminals=np.array([0, 0, 1] * 3, bool)), max_episode_steps=3)
    assert ours.terminals.sum() == 3


def test_nothing_but_time_outs_is_an_error():
    with pytest.raises(TransitionError, match="no transition is left of 4 rows"):
        to_transitions(rows_of(terminals=np.zeros(4, bool), timeouts=np.ones(4, bool)))

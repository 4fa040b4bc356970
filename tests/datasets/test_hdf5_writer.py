"""A replay written in D4RL's layout, read back by h5py and by the loader."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synther.datasets import load_dataset
from synther.datasets.hdf5_writer import write_hdf5
from synther.transitions import TransitionError, Transitions


def replay(ends: list[int]) -> tuple[Transitions, np.ndarray]:
    """A row a step: 0 goes on, 1 is a terminal, 2 a time-out; a new episode begins elsewhere."""
    rng = np.random.default_rng(len(ends))
    rows = len(ends)
    observations = rng.normal(size=(rows, 3)).astype(np.float32)
    following = rng.normal(size=(rows, 3)).astype(np.float32)
    for row, end in enumerate(ends[:-1]):
        if end == 0:
            following[row] = observations[row + 1]
    transitions = Transitions(
        observations=observations,
        actions=rng.uniform(-1, 1, (rows, 2)),
        rewards=rng.normal(size=rows),
        next_observations=following,
        terminals=np.array(ends) == 1,
        metadata={"env_id": "Pendulum-v1"},
    )
    return transitions, np.array(ends) == 2


@given(ends=st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=2, max_size=40))
@settings(max_examples=25)
def test_the_loader_reads_the_rows_back(
    tmp_path_factory: pytest.TempPathFactory, ends: list[int]
) -> None:
    path = tmp_path_factory.mktemp("replay") / "replay.hdf5"
    transitions, timeouts = replay(ends)
    assert write_hdf5(path, transitions, timeouts) == path
    # Time-outs are left out, as d4rl does, unless they are asked for.
    loaded = load_dataset(path, terminate_on_end=True)
    for name, column in transitions.arrays().items():
        np.testing.assert_array_equal(getattr(loaded, name), column, err_msg=name)
    if not timeouts.all():
        loaded = load_dataset(path)
        for name, column in transitions.arrays().items():
            np.testing.assert_array_equal(getattr(loaded, name), column[~timeouts], err_msg=name)
    assert loaded.metadata["env_id"] == "Pendulum-v1"


def test_keys_and_types_are_d4rl_s(tmp_path: Path) -> None:
    transitions, timeouts = replay([0, 1, 0, 2, 0])
    path = tmp_path / "deep" / "replay.h5"
    write_hdf5(path, transitions, timeouts, {"seed": 3, "env_id": "Other-v0"})
    with h5py.File(path) as file:
        assert set(file) == {
            "observations", "actions", "rewards", "next_observations", "terminals", "timeouts",
        }  # fmt: skip
        assert file["terminals"].dtype == file["timeouts"].dtype == bool
        assert file["observations"].dtype == file["rewards"].dtype == np.float32
        assert file["rewards"].shape == (5,)
        np.testing.assert_array_equal(file["terminals"], [0, 1, 0, 0, 0])
        np.testing.assert_array_equal(file["timeouts"], [0, 0, 0, 1, 0])
        metadata = json.loads(file.attrs["synther_metadata"])
    assert metadata == {"seed": 3, "env_id": "Other-v0"}


def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    transitions, timeouts = replay([0, 1, 0, 2, 0])
    path = tmp_path / "replay.hdf5"
    with pytest.raises(TransitionError, match=r"shape \(4,\), expected \[5\]"):
        write_hdf5(path, transitions, timeouts[:4])
    with pytest.raises(TransitionError, match="row 1 is a terminal and a time-out"):
        write_hdf5(path, transitions, ~timeouts)
    with pytest.raises(TypeError):
        write_hdf5(path, transitions, timeouts, {"not": "JSON", "object": object()})
    assert not list(tmp_path.iterdir())


def test_an_earlier_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    transitions, timeouts = replay([0, 1, 0, 2, 0])
    path = write_hdf5(tmp_path / "replay.hdf5", transitions, timeouts)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_hdf5(path, transitions, timeouts, {"object": object()})
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["replay.hdf5"]

"""What float32 cannot hold is said, wherever numbers come in; what it holds is not spoken of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synther.datasets import as_transitions, load_dataset
from synther.envs import make_env
from synther.envs.wrappers import _PrecisionCheck
from synther.files.float32 import PrecisionWarning, lost_columns, to_float32
from tests.data import random_transitions
from tests.environments import registered

ROWS = 6000
SECONDS = 1.7e9 + np.arange(ROWS)  # since 1970, one row a second: float32 has steps of 128 there


def five(**changes: Any) -> dict[str, Any]:
    return {**random_transitions(rows=ROWS).arrays(), **changes}


def with_times(column: int = 1) -> np.ndarray:
    observations = np.random.default_rng(0).normal(size=(ROWS, 3))
    observations[:, column] = SECONDS
    return observations


def test_a_large_offset_is_said_at_every_door(tmp_path: Path) -> None:
    arrays = five(observations=with_times())
    np.savez(tmp_path / "data.npz", **arrays)
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for name, array in {**arrays, "timeouts": np.zeros(ROWS, bool)}.items():
            file[name] = array
    kept = len(np.unique(SECONDS.astype(np.float32)))
    assert kept == 48  # 6000 / 128, and the two ends
    said = rf"6000 different values of observations\[1\] become {kept} .*Subtract an offset"
    for load in (
        lambda: as_transitions(arrays),
        lambda: load_dataset(tmp_path / "data.npz"),
        lambda: load_dataset(tmp_path / "data.hdf5"),
    ):
        with pytest.warns(PrecisionWarning, match=said):
            load()


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.float64])
def test_whole_numbers_that_float32_does_not_have_are_said(dtype: Any) -> None:
    numbers = np.array([2**24, 2**24 + 1, 7, 2**24 + 2]).astype(dtype)
    with pytest.warns(PrecisionWarning, match="4 different values of rewards become 3"):
        to_float32(numbers, "rewards", "data")
    assert lost_columns(np.array([2**24, 2**25, -(2**24) + 1]).astype(np.int64)) == []


def test_whole_numbers_of_64_bits_are_compared_as_they_are() -> None:
    assert lost_columns(np.array([2**60, 2**60 + 1])) == [0]
    assert lost_columns(np.array([2**60, 2**61])) == []


@given(
    scale=st.floats(1e-6, 1e6),
    offset=st.floats(-100, 100),
    dtype=st.sampled_from([np.float64, np.float32]),
)
def test_ordinary_columns_are_not_spoken_of(scale: float, offset: float, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    columns = scale * (offset + rng.normal(size=(500, 2))).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = to_float32(columns, "observations", "data")
    np.testing.assert_array_equal(found, columns.astype(np.float32))


def test_a_constant_and_the_noise_of_float64_lose_nothing() -> None:
    rng = np.random.default_rng(0)
    assert lost_columns(np.full((100, 1), 0.1)) == []
    assert lost_columns(1.7e9 + np.zeros((100, 1))) == []
    assert lost_columns(0.1 * (1 + 1e-16 * rng.integers(0, 3, (100, 1)))) == []
    assert lost_columns(np.zeros((0, 3))) == []
    assert lost_columns(np.array([[1e300], [0.0]])) == []  # refused elsewhere: inf


def test_the_error_is_measured_over_all_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lost_columns(with_times())
    monkeypatch.setattr("synther.files.float32._BLOCK", 7)
    assert lost_columns(with_times()) == whole == [1]


class Clock(gymnasium.Env):  # type: ignore[type-arg]
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 1.7e9
        return np.array([0.0, self.time]), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return np.array([float(action[0]), self.time]), 0.0, False, False, {}


@pytest.fixture
def _clock() -> Iterator[None]:
    with registered(Clock, max_episode_steps=1000):
        yield
    _PrecisionCheck.warned.discard("Clock-v0")


@pytest.mark.usefixtures("_clock")
def test_an_environment_s_observations_are_looked_at_once() -> None:
    def play() -> None:
        for env in (make_env("Clock-v0"), make_env("Clock-v0")):
            env.reset(seed=0)
            for _ in range(250):
                assert env.step(np.zeros(1))[0].dtype == np.float32

    with pytest.warns(PrecisionWarning, match=r"Clock-v0: .*observations\[1\] become") as said:
        play()
    assert len(said) == 1

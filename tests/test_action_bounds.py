"""Bounds of actions: what they map, what they refuse, and how they travel with the rows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from synther.action_bounds import ActionBounds
from synther.datasets import as_transitions, load_dataset
from synther.datasets.hdf5_writer import write_hdf5
from synther.transitions import TransitionError, Transitions
from tests.data import random_transitions

DATA = random_transitions(40)


def stating(**bounds: Any) -> Transitions:
    return replace(DATA, metadata=bounds)


def test_each_end_goes_to_its_counterpart_and_the_middle_to_the_middle() -> None:
    bounds = ActionBounds.of([-2.0, 0.0], [2.0, 10.0], 2)
    actions = np.array([[-2, 0], [2, 10], [0, 5], [1, 2.5]], np.float32)
    unit = bounds.to_unit(actions)
    np.testing.assert_allclose(unit, [[-1, -1], [1, 1], [0, 0], [0.5, -0.5]], atol=1e-7)
    np.testing.assert_allclose(ActionBounds.unit(2).map(unit, bounds), actions, atol=1e-6)


def test_the_same_bounds_leave_every_bit() -> None:
    np.testing.assert_array_equal(ActionBounds.unit(2).to_unit(DATA.actions), DATA.actions)
    wide = ActionBounds.of(-0.4, 0.4, 2)
    assert wide == ActionBounds.of(np.float64(-0.4), 0.4, 2)
    np.testing.assert_array_equal(wide.map(DATA.actions, wide), DATA.actions)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"action_low": -1}, "'action_low' is given and 'action_high' is not"),
        ({"action_low": 1, "action_high": 1}, "has to be below"),
        ({"action_low": [-1, -1, -1], "action_high": 1}, "or 2, one for each column"),
        ({"action_low": -1, "action_high": float("inf")}, "expected a finite number"),
        ({"action_low": "low", "action_high": 1}, "'action_low' is 'low'"),
    ],
)
def test_bounds_that_are_none_are_refused(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(TransitionError, match=message):
        stating(**metadata)


def test_bounds_come_back_from_both_kinds_of_files(tmp_path: Path) -> None:
    data = stating(action_low=-2, action_high=[2, 3])
    expected = {"action_low": [-2, -2], "action_high": [2, 3]}
    assert expected.items() <= Transitions.load(data.save(tmp_path / "a.npz")).metadata.items()
    no_ends = np.zeros(len(data), np.bool_)
    written = write_hdf5(tmp_path / "a.hdf5", data, no_ends)
    assert expected.items() <= load_dataset(written).metadata.items()


def test_bounds_may_be_arrays_of_a_file_and_a_limit_does_not_cut_them(tmp_path: Path) -> None:
    low, high = np.array([-2.0, -3.0]), np.array([2.0, 3.0])
    np.savez(tmp_path / "a.npz", **DATA.arrays(), action_low=low, action_high=high)
    for limit in (None, 1):
        found = Transitions.load(tmp_path / "a.npz", limit=limit).action_bounds
        assert found == ActionBounds.of(low, high, 2)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name, array in DATA.arrays().items():
            file[name] = array
        file["action_low"], file["action_high"] = low, high
    assert load_dataset(tmp_path / "a.hdf5").action_bounds == ActionBounds.of(low, high, 2)


def test_parts_in_other_units_are_not_put_together() -> None:
    own, scaled = stating(action_low=-2, action_high=2), stating(action_low=-1, action_high=1)
    with pytest.raises(TransitionError, match=r"units of \[-1, 1\], but transitions has .*\[-2, 2"):
        Transitions.concatenate([own, scaled])
    both = Transitions.concatenate([own, own])
    assert both.action_bounds == own.action_bounds


def discrete(kind: str, folder: Path) -> Any:
    arrays = {**DATA.arrays(), "actions": np.arange(40)[:, None] % 4}
    if kind == "Transitions":
        return Transitions(**arrays)
    if kind == "mapping":
        return as_transitions(arrays)
    if kind == "npz":
        np.savez(folder / "a.npz", **arrays)
        return load_dataset(folder / "a.npz")
    with h5py.File(folder / "a.hdf5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return load_dataset(folder / "a.hdf5")


@pytest.mark.parametrize("kind", ["Transitions", "mapping", "npz", "hdf5"])
def test_discrete_actions_are_refused_at_every_door_alike(kind: str, tmp_path: Path) -> None:
    with pytest.raises(TransitionError, match=r"'actions' has type int64: discrete actions; only"):
        discrete(kind, tmp_path)


def test_metadata_stay_plain() -> None:
    data = stating(action_low=np.float32(-0.4), action_high=np.array([0.4, 0.4]))
    assert json.loads(json.dumps(data.metadata))["action_high"] == pytest.approx([0.4, 0.4])

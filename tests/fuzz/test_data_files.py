"""Data files of anybody: transitions, or an error that names the file and what is wrong in it."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synther.datasets import load_dataset
from synther.datasets.hdf5_writer import write_hdf5
from synther.transitions import FIELDS, TransitionError, Transitions
from tests.data import random_transitions
from tests.fuzz.helpers import FUZZ, damaged, loads_or_says_why

ROWS = random_transitions(6)


def npz_bytes(compress: bool, **arrays: Any) -> bytes:
    buffer = io.BytesIO()
    contents = arrays or {**ROWS.arrays(), "metadata": np.array('{"env_id": "Hopper-v2"}')}
    (np.savez_compressed if compress else np.savez)(buffer, **contents)
    return buffer.getvalue()


def hdf5_bytes() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in ROWS.arrays().items():
            file.create_dataset(name, data=array)
        file.create_dataset("timeouts", data=np.zeros(len(ROWS), bool))
    return buffer.getvalue()


WHOLE = {"a.npz": npz_bytes(False), "b.npz": npz_bytes(True), "c.hdf5": hdf5_bytes()}


@pytest.mark.parametrize("name", WHOLE)
@FUZZ
@given(data=st.data())
def test_a_damaged_file_loads_or_is_named(name: str, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data.draw(damaged(WHOLE[name])))
    loaded = loads_or_says_why(load_dataset, path, TransitionError)
    assert loaded is None or len(loaded) > 0


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_off_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    whole, path = WHOLE[name], tmp_path / name
    assert len(load_dataset_of(path, whole)) >= 5
    step = max(1, len(whole) // 400)
    for size in [*range(0, len(whole), step), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(TransitionError, match=name):
            load_dataset(path)


def load_dataset_of(path: Path, content: bytes) -> Transitions:
    path.write_bytes(content)
    return load_dataset(path)


# Arrays under the five names, each of any type and shape.
scalars = st.sampled_from([0, 1, -1, 0.5, float("nan"), float("inf"), 1e300, 2**62])
dtypes = st.sampled_from(["f2", "f4", "f8", ">f4", "i1", "u8", "bool", "c8", "U3", "S2", "M8[s]"])
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@st.composite
def arrays(draw: Any) -> np.ndarray:
    kind, shape = draw(dtypes), draw(shapes)
    if kind in ("U3", "S2", "M8[s]"):
        return np.zeros(shape, kind)
    with np.errstate(all="ignore"):
        try:
            return np.full(shape, draw(scalars)).astype(kind)
        except (OverflowError, ValueError):
            return np.zeros(shape, kind)


@st.composite
def five_arrays(draw: Any) -> dict[str, np.ndarray]:
    """Good ones, of which some are replaced and some left out."""
    chosen: dict[str, np.ndarray] = dict(ROWS.arrays())
    for name in draw(st.sets(st.sampled_from([*FIELDS, "timeouts"]), max_size=3)):
        if draw(st.booleans()):
            chosen[name] = draw(arrays())
        else:
            chosen.pop(name, None)
    return chosen


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@FUZZ
@given(contents=five_arrays())
def test_arrays_of_any_kind_load_or_are_named(
    suffix: str, contents: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / f"odd{suffix}"
    if suffix == ".npz":
        path.write_bytes(npz_bytes(False, **contents, rest=np.zeros(1)))
    else:
        with h5py.File(path, "w") as file:
            for name, array in contents.items():
                kept = np.zeros(array.shape, "S3") if array.dtype.kind in "UM" else array
                file.create_dataset(name, data=kept)
    loaded = loads_or_says_why(load_dataset, path, TransitionError)
    if loaded is not None:
        for name in FIELDS:
            assert np.isfinite(getattr(loaded, name)).all()


METADATA = [
    "[1, 2]", "nothing", "NaN", '{"env_id": 5}', '{"env_id": ["Hopper-v2"]}',
    '{"reference_scores": "high"}', '{"reference_scores": 7}', '{"reference_scores": [1]}',
    '{"reference_scores": [1, "x"]}', "[" * 100_000, '{"a":' * 50_000,
]  # fmt: skip


@pytest.mark.parametrize("text", METADATA, ids=[each[:30] for each in METADATA])
@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_what_a_file_says_of_itself_is_checked(suffix: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"said{suffix}"
    if suffix == ".npz":
        path.write_bytes(npz_bytes(True, **ROWS.arrays(), metadata=np.array(text)))
    else:
        write_hdf5(path, ROWS, np.zeros(len(ROWS), bool))
        with h5py.File(path, "a") as file:
            if len(text) > 60_000:
                pytest.skip("longer than an attribute may be")
            file.attrs["synther_metadata"] = text
    with pytest.raises(TransitionError, match=path.name):
        load_dataset(path)


def npy_bytes(header: str) -> bytes:
    text = (header + " " * 10 + "\n").encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000000000000, 3)}",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (30000000000, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-6, 3)}",
    "{'descr': '<U2000000000', 'fortran_order': False, 'shape': (6,)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (6, 3)}",
    "{'descr': 'no such type', 'fortran_order': False, 'shape': (6, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 3)",
    "__import__('os').system('true')",
    "(" * 3000,
    "",
]


@pytest.mark.parametrize("header", HEADERS, ids=[each[:60] for each in HEADERS])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_lies_costs_no_memory(method: int, header: str, tmp_path: Path) -> None:
    path = tmp_path / "lies.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in FIELDS:
            archive.writestr(f"{name}.npy", npy_bytes(header) + b"\0" * 100_000)
    tracemalloc.start()
    with pytest.raises(TransitionError, match=r"lies\.npz"):
        load_dataset(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6


def test_an_object_array_is_refused_unread(tmp_path: Path) -> None:
    """A pickle would run when it is read."""
    touched = tmp_path / "touched"

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (touched,)

    bomb = np.array([Bomb()] * 6, dtype=object)
    path = tmp_path / "bomb.npz"
    path.write_bytes(npz_bytes(False, **{**ROWS.arrays(), "rewards": bomb}))
    with pytest.raises(TransitionError, match=r"bomb\.npz: 'rewards' is an object array"):
        load_dataset(path)
    assert not touched.exists()
    np.load(path, allow_pickle=True)["rewards"]
    assert touched.exists()  # it would have gone off


def test_no_rows_are_refused_at_the_door(tmp_path: Path) -> None:
    empty = {name: array[:0] for name, array in ROWS.arrays().items()}
    Transitions.from_arrays(empty).save(tmp_path / "empty.npz")
    with pytest.raises(TransitionError, match=r"empty\.npz: no rows"):
        load_dataset(tmp_path / "empty.npz")


def test_metadata_that_is_good_is_kept(tmp_path: Path) -> None:
    said = {"env_id": "Hopper-v2", "reference_scores": [1, 2.5], "more": [None, {"a": 1}]}
    path = tmp_path / "good.npz"
    path.write_bytes(npz_bytes(True, **ROWS.arrays(), metadata=np.array(json.dumps(said))))
    assert load_dataset(path).metadata["more"] == said["more"]

"""Each way in which an HDF5 file can be bad has its own error: file, key, row, expectation."""

import h5py
import numpy as np
import pytest

from synther.datasets.files import read_hdf5
from synther.transitions import TransitionError


def error_of(path) -> str:
    with pytest.raises(TransitionError) as caught:
        read_hdf5(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_good_file_is_read_as_it_is(write_hdf5):
    path = write_hdf5()
    rows = read_hdf5(path)
    with h5py.File(path) as file:
        for key in file:
            np.testing.assert_array_equal(getattr(rows, key), file[key][:])
    assert rows.observations.dtype == np.float32
    assert rows.terminals.dtype == rows.timeouts.dtype == np.bool_


def test_columns_of_one_and_other_number_types_are_taken(write_hdf5):
    rewards, flags = np.arange(20, dtype=np.float64), np.arange(20) % 2
    path = write_hdf5(rewards=rewards[:, None], terminals=flags[:, None].astype(np.float32))
    rows = read_hdf5(path)
    np.testing.assert_array_equal(rows.rewards, rewards)
    np.testing.assert_array_equal(rows.terminals, flags == 1)


def test_optional_keys_may_be_missing(write_hdf5):
    rows = read_hdf5(write_hdf5(timeouts=None, next_observations=None))
    assert rows.timeouts is None
    assert rows.next_observations is None


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.hdf5: no such file"):
        read_hdf5(tmp_path / "nowhere.hdf5")


def test_empty_file(tmp_path):
    path = tmp_path / "x.hdf5"
    path.touch()
    assert "empty file (0 bytes)" in error_of(path)


@pytest.mark.parametrize(("start", "hint"), [(b"\n<html>403", "web page"), (b"PK\x03", "PK")])
def test_not_hdf5_at_all(tmp_path, start, hint):
    path = tmp_path / "x.hdf5"
    path.write_bytes(start * 50)
    message = error_of(path)
    assert "not an HDF5 file" in message
    assert hint in message


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_truncated_at_any_place(write_hdf5, share):
    path = write_hdf5(rows=2000)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "truncated or damaged" in error_of(path)


def test_damaged_inside(tmp_path, golden):
    with h5py.File(golden / "hopper-random-v2.sample.hdf5") as file:
        where = file["actions"].id.get_chunk_info(0)
    content = bytearray((golden / "hopper-random-v2.sample.hdf5").read_bytes())
    middle = where.byte_offset + where.size // 2
    content[middle : middle + 64] = bytes(64)
    path = tmp_path / "x.hdf5"
    path.write_bytes(content)
    message = error_of(path)
    assert "'actions' cannot be read" in message
    assert "damaged" in message


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_missing_key(write_hdf5, key):
    message = error_of(write_hdf5(**{key: None}))
    assert f"missing '{key}'; found" in message
    assert "'timeouts'" in message


def test_keys_of_other_names_get_the_mapping(write_hdf5):
    arrays = np.zeros((20, 3)), np.zeros((20, 3)), np.zeros(20)
    yours = dict(zip(("obs", "next_obs", "done"), arrays, strict=True))
    gone = dict.fromkeys(("observations", "next_observations", "terminals", "timeouts"))
    message = error_of(write_hdf5(**gone, **yours))
    assert "rename yours: {'observations': data['obs'], 'terminals': data['done'], " in message
    assert "'next_observations': data['next_obs']} (without the rows that only ran" in message


def test_keys_in_upper_case_get_the_mapping(write_hdf5):
    gone = dict.fromkeys(("observations", "terminals", "next_observations", "timeouts"))
    yours = {"Observations": np.zeros((20, 3)), "Terminals": np.zeros(20)}
    message = error_of(write_hdf5(**gone, **yours))
    mapping = "{'observations': data['Observations'], 'terminals': data['Terminals']}"
    assert message.endswith(f"rename yours: {mapping}")
    assert "(without the rows that only ran" in error_of(write_hdf5(**gone, Done=np.zeros(20)))


@pytest.mark.parametrize("key", ["observations", "actions", "rewards"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_value_that_is_not_finite_in_float32(write_hdf5, key, value):
    values = np.zeros(20) if key == "rewards" else np.zeros((20, 3))
    values[[7, 11]] = value
    message = error_of(write_hdf5(**{key: values}))
    assert f"'{key}' is not finite" in message
    assert "2 of 20 rows, first in row 7" in message


@pytest.mark.parametrize("key", ["terminals", "timeouts"])
@pytest.mark.parametrize("value", [0.5, 2, np.nan])
def test_flag_other_than_0_and_1(write_hdf5, key, value):
    flags = np.zeros(20)
    flags[9] = value
    assert f"'{key}' in row 9 is {value}" in error_of(write_hdf5(**{key: flags}))


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("observations", (20,)),
        ("observations", (20, 3, 3)),
        ("observations", (20, 0)),
        ("actions", (20,)),
        ("next_observations", (20,)),
        ("rewards", (20, 2)),
        ("rewards", ()),
        ("terminals", (20, 2)),
        ("timeouts", (20, 1, 1)),
    ],
)
def test_wrong_dimensions(write_hdf5, key, shape):
    message = error_of(write_hdf5(**{key: np.zeros(shape)}))
    assert f"'{key}' has shape {shape}, expected [rows" in message


@pytest.mark.parametrize("key", ["actions", "rewards", "timeouts", "next_observations"])
def test_lengths_that_differ(write_hdf5, key):
    values = np.zeros((19, 3)) if key in ("actions", "next_observations") else np.zeros(19)
    assert f"'{key}' has 19 rows, 'observations' has 20" in error_of(write_hdf5(**{key: values}))


def test_widths_that_differ(write_hdf5):
    message = error_of(write_hdf5(next_observations=np.zeros((20, 4))))
    assert "'next_observations' has 4 columns, 'observations' has 3" in message


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows(write_hdf5, rows):
    assert f"{rows} rows, expected 2 or more" in error_of(write_hdf5(rows=rows))


@pytest.mark.parametrize(
    "values",
    [
        np.array(["0"] * 20, dtype=h5py.string_dtype()),
        np.array([b"abc"] * 20),
        np.array([np.zeros(2)] * 20 + [np.zeros(3)], dtype=object)[:20],
        np.zeros(20, np.complex64),
    ],
    ids=["string", "bytes", "ragged", "complex"],
)
def test_arrays_of_other_things_than_numbers(write_hdf5, values):
    path = write_hdf5(rewards=None)
    with h5py.File(path, "a") as file:
        dtype = h5py.vlen_dtype(np.float64) if values.dtype == object else None
        if h5py.check_string_dtype(values.dtype) is not None:
            dtype = None
        file.create_dataset("rewards", data=values, dtype=dtype)
    message = error_of(path)
    assert "'rewards' has type" in message
    assert "expected numbers" in message


def test_group_in_place_of_an_array(write_hdf5):
    path = write_hdf5(rewards=None)
    with h5py.File(path, "a") as file:
        file["rewards/inner"] = np.zeros(20)
    assert "'rewards' is a group" in error_of(path)


@pytest.mark.parametrize("kind", ["external link", "soft link", "virtual", "external storage"])
def test_data_outside_the_file_is_not_followed(write_hdf5, tmp_path, kind):
    secret = write_hdf5("secret.hdf5")
    raw = tmp_path / "secret.bin"
    raw.write_bytes(np.ones(20, np.float32).tobytes())
    path = write_hdf5(rewards=None)
    with h5py.File(path, "a") as file:
        if kind == "external link":
            file["rewards"] = h5py.ExternalLink(str(secret), "/rewards")
        elif kind == "soft link":
            file["rewards"] = h5py.SoftLink("/elsewhere")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((20,), np.float32)
            layout[:] = h5py.VirtualSource(str(secret), "rewards", shape=(20,))
            file.create_virtual_dataset("rewards", layout)
        else:
            file.create_dataset("rewards", (20,), np.float32, external=[(str(raw), 0, 80)])
    message = error_of(path)
    assert "'rewards'" in message
    assert "not followed" in message


def test_array_that_claims_more_than_the_file_can_hold_is_not_allocated(write_hdf5):
    path = write_hdf5(observations=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (10**12, 100), np.float32, chunks=(1000, 100))
    assert "'observations' declares" in error_of(path)

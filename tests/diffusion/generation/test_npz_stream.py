import json

import numpy as np
import pytest

from synther.diffusion.generation.npz_stream import NpzStream
from synther.transitions import Transitions
from tests.diffusion.models import LAYOUT, random_rows


def test_rows_written_beyond_the_record_are_written_again(tmp_path):
    """A kill between writing a batch and recording it leaves bytes that nobody counted."""
    path, rows = tmp_path / "a.npz", random_rows(30)
    with NpzStream(path, LAYOUT, 30, {"seed": 1}) as stream:
        stream.append(rows[:10])
    with open(tmp_path / ".a.npz.parts" / "actions.npy", "ab") as file:
        file.write(b"half a ro")
    with NpzStream(path, LAYOUT, 30, {"seed": 1}) as stream:
        assert stream.done == 10
        stream.append(rows[10:])
        stream.finish(compress=False, metadata={})
    assert np.array_equal(LAYOUT.pack(Transitions.load(path)), rows)


@pytest.mark.parametrize("damage", ["short", "garbled", "missing"])
def test_damaged_remains_are_not_continued(tmp_path, damage):
    path, parts = tmp_path / "a.npz", tmp_path / ".a.npz.parts"
    with NpzStream(path, LAYOUT, 30, {"seed": 1}) as stream:
        stream.append(random_rows(10))
    if damage == "short":
        (parts / "actions.npy").write_bytes(b"x")
    elif damage == "garbled":
        (parts / "state.json").write_text("{")
    else:
        (parts / "rewards.npy").unlink()
    with NpzStream(path, LAYOUT, 30, {"seed": 1}) as stream:
        assert stream.done == 0


def test_counts_are_held_to(tmp_path):
    with NpzStream(tmp_path / "a.npz", LAYOUT, 15, {}) as stream:
        stream.append(random_rows(10))
        with pytest.raises(ValueError, match="10 rows were written, expected 15"):
            stream.finish(compress=False, metadata={})
        with pytest.raises(ValueError, match="20 rows, expected 15"):
            stream.append(random_rows(10))
        state = json.loads((tmp_path / ".a.npz.parts" / "state.json").read_text())
        assert state["done"] == 10


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")
    with NpzStream(path, LAYOUT, 10, {}) as stream:
        stream.append(random_rows(10))
        assert path.read_bytes() == b"old"
        stream.finish(compress=True, metadata={"k": 1})
    assert Transitions.load(path).metadata == {"k": 1}

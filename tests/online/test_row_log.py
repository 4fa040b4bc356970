"""Rows on disk: whatever the moments of the checkpoints, what is read is what the buffer held."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synther.files.checkpoint import CheckpointError
from synther.learning.replay import RowBuffer
from synther.online.row_log import RowLog, load_rows, save_rows
from synther.transitions import TransitionLayout

LAYOUT = TransitionLayout(2, 1)
WIDTH = LAYOUT.row_dim


def rows(start: int, stop: int) -> torch.Tensor:
    """Row k holds k, k + 0.5, ..."""
    return torch.arange(start, stop)[:, None] + 0.5 * torch.arange(WIDTH)


def filled(capacity: int, count: int) -> RowBuffer:
    buffer = RowBuffer(LAYOUT, capacity)
    buffer.insert(rows(0, count))
    return buffer


def rows_on_disk(folder: Path) -> int:
    return sum(len(np.load(path)) for path in folder.glob("*.npy"))


@given(
    capacity=st.integers(1, 40),
    block_rows=st.integers(1, 15),
    gaps=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    tidied=st.lists(st.booleans(), min_size=8, max_size=8),
)
@settings(max_examples=40)
def test_what_is_read_is_what_the_buffer_held(
    tmp_path_factory: pytest.TempPathFactory,
    capacity: int,
    block_rows: int,
    gaps: list[int],
    tidied: list[bool],
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    log = RowLog(folder, block_rows)
    buffer, inserted = RowBuffer(LAYOUT, capacity), 0
    for gap, tidy in zip(gaps, tidied, strict=False):
        buffer.insert(rows(inserted, inserted + gap))
        inserted += gap
        log.write(buffer, inserted)
        if tidy:  # a run can be killed between the two
            log.tidy(buffer, inserted)
            assert rows_on_disk(folder) < capacity + 2 * block_rows
        again = RowBuffer(LAYOUT, capacity)
        RowLog(folder, block_rows).read(again, inserted)
        assert len(again) == len(buffer)
        assert torch.equal(again.valid_rows(), buffer.valid_rows())
        assert again.state_dict()["next"] == buffer.state_dict()["next"]


def test_full_files_are_written_once(tmp_path: Path) -> None:
    log = RowLog(tmp_path, block_rows=10)
    log.write(filled(100, 25), 25)
    full = tmp_path / "rows-0-10.npy"
    before = full.stat().st_mtime_ns, full.stat().st_ino
    log.write(filled(100, 33), 33)
    log.tidy(filled(100, 33), 33)
    assert (full.stat().st_mtime_ns, full.stat().st_ino) == before
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"rows-0-10.npy", "rows-10-20.npy", "rows-20-30.npy", "rows-30-33.npy"}


def test_tidying_leaves_nothing_of_a_run_that_begins(tmp_path: Path) -> None:
    log = RowLog(tmp_path, block_rows=10)
    log.write(filled(100, 25), 25)
    log.tidy(RowBuffer(LAYOUT, 100), 0)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    log = RowLog(tmp_path, block_rows=10)
    log.write(filled(100, 25), 25)
    (tmp_path / "rows-10-20.npy").unlink()
    with pytest.raises(CheckpointError, match=r"rows-10-20\.npy"):
        log.read(RowBuffer(LAYOUT, 100), 25)


def npy(array: np.ndarray) -> bytes:
    contents = io.BytesIO()
    np.save(contents, array)
    return contents.getvalue()


def zipped(array: np.ndarray) -> bytes:
    contents = io.BytesIO()
    np.savez(contents, array)
    return contents.getvalue()


GOOD = np.ones((5, WIDTH), np.float32)
DAMAGED = {
    "empty": b"",
    "text": b"not an array",
    "header cut off": npy(GOOD)[:40],
    "rows cut off": npy(GOOD)[:-3],
    "more rows than bytes": npy(GOOD).replace(b"(5,", b"(9,"),
    "absurd size": npy(GOOD).replace(b"(5, 7)", b"(5" + b"0" * 15 + b", 7)")[: len(npy(GOOD))],
    "header of nonsense": npy(GOOD).replace(b"'shape'", b"'sh\xffp'}"),
    "unbalanced header": npy(GOOD).replace(b"(5,", b"((("),
    "other rows": npy(GOOD[:4]),
    "other columns": npy(GOOD[:, :3]),
    "other numbers": npy(GOOD.astype(np.float64)),
    "objects": npy(np.array([{"a": 1}], object)),
    "an archive": zipped(GOOD),
    "a damaged archive": zipped(GOOD)[:60],
}


@pytest.mark.parametrize("contents", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "rows-0-5.npy"
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"rows-0-5\.npy"):
        load_rows(path, 5, WIDTH)
    assert zipfile.is_zipfile(path) == (DAMAGED["an archive"] == contents)


@given(cut=st.integers(0, 200), flips=st.lists(st.tuples(st.integers(0, 130), st.integers(1, 255))))
@settings(max_examples=40)
def test_no_other_error_whatever_the_damage(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: list[tuple[int, int]]
) -> None:
    contents = bytearray(npy(GOOD))
    for position, flip in flips:
        contents[position] ^= flip
    path = tmp_path_factory.mktemp("rows") / "rows-0-5.npy"
    path.write_bytes(contents[: len(contents) - cut])
    with contextlib.suppress(CheckpointError):  # a flipped bit of a number is not noticed
        assert load_rows(path, 5, WIDTH).shape == (5, WIDTH)


def test_saved_rows_are_whole_and_alone(tmp_path: Path) -> None:
    save_rows(tmp_path / "a.npy", rows(0, 4))
    assert torch.equal(load_rows(tmp_path / "a.npy", 4, WIDTH), rows(0, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]

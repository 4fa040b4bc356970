"""A disk that is full or read-only: a message, exit code 4, nothing half-written, and --resume."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from synther.files import atomic, checkpoint, npz
from tests.faults.conftest import Mount
from tests.faults.runs import KINDS, difference, outcome


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(
    kind: str, data: Path, tmp_path: Path, disk: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    run = KINDS[kind]
    whole = tmp_path / "whole"
    run.start(run.words(data, whole))
    folder = whole / run.folder
    room = sum(path.stat().st_size for path in folder.rglob("*.pt"))
    results = disk(f"size={room // 2}")
    with pytest.raises(SystemExit) as stopped:
        run.start(run.words(data, results))
    assert stopped.value.code == 4
    message = capsys.readouterr().err
    assert "No space left on device; free some space" in message
    assert "Traceback" not in message
    assert not list(results.rglob("*.partial"))
    for path in (results / run.folder).rglob("*.pt"):
        checkpoint.load(path)
    subprocess.run(["mount", "-o", "remount,size=100m", str(results)], check=True)
    run.start([*run.words(data, results), "--resume"])
    found, expected = outcome(results / run.folder), outcome(folder)
    assert difference(found, expected) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_only_folder_is_named(
    kind: str, data: Path, disk: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    run = KINDS[kind]
    results = disk("ro")
    with pytest.raises(SystemExit) as stopped:
        run.start(run.words(data, results))
    assert stopped.value.code == 4
    message = capsys.readouterr().err
    assert "Read-only file system; choose a folder that can be written" in message
    assert str(results) in message
    assert ".partial" not in message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_an_error_while_writing_keeps_the_old_file_and_names_it(
    number: int, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, at, fail)
        with pytest.raises(OSError) as raised, atomic.atomic_write(path) as file:
            file.write(b"new")
    assert (raised.value.errno, raised.value.filename) == (number, str(path))
    assert path.read_bytes() == b"old"
    assert files(tmp_path) == {"out.bin"}


@pytest.mark.parametrize("size", [10, 100_000])
def test_torch_says_what_the_disk_said(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save hides a failed write behind an error of its archive; 10 numbers fail at the end
    only, when the buffer is written."""
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / ".model-1.pt.7.partial").symlink_to("/dev/full")
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with pytest.raises(OSError, match=r"No space left on device: '.*model-1\.pt'"):
        checkpoint.save(folder / "model-1.pt", {"weights": torch.zeros(size)})
    assert not list(folder.iterdir())


def test_an_error_of_something_else_in_the_block_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic.atomic_write(tmp_path / "a"):
        (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(OSError) as raised, atomic.atomic_write(tmp_path / "a"):
        raise OSError("the server hung up")
    assert raised.value.filename is None
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_at_the_next_start(
    data: Path, tmp_path: Path
) -> None:
    for kind in KINDS.values():
        results = tmp_path / kind.folder.replace("/", "-")
        kind.start(kind.words(data, results))
        left = results / kind.folder / ".model-1.pt.4711.partial"
        left.write_bytes(b"half of a checkpoint")
        (results / kind.folder / "result.json").unlink(missing_ok=True)
        kind.start([*kind.words(data, results), "--resume"])
        assert not left.exists()


def test_removing_leaves_all_other_files(tmp_path: Path) -> None:
    for name in (".a.1.partial", "b.partial", ".hidden", "c.pt"):
        (tmp_path / name).write_bytes(b"")
    atomic.remove_partials(tmp_path)
    atomic.remove_partials(tmp_path / "nothing")
    assert files(tmp_path) == {"b.partial", ".hidden", "c.pt"}


def test_npz_on_a_full_disk(disk: Mount) -> None:
    import numpy as np

    folder = disk("size=64k")
    npz.write(folder / "small.npz", {"x": np.zeros(10)})
    with pytest.raises(OSError, match=r"No space left on device: '.*large\.npz'"):
        npz.write(folder / "large.npz", {"x": np.zeros(100_000)})
    assert files(folder) == {"small.npz"}

"""One process at a time works in a folder; who it is, is said, and a killed one holds nothing."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from synther.runs.lock import FolderInUseError, FolderLock, owner_of

HOLD = """
import sys
from synther.runs.lock import FolderLock
with FolderLock(sys.argv[1]) as lock:
    lock.acquire()
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its input ends."""
    words = [sys.executable, "-c", HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_told_who_works_there_and_since_when(tmp_path: Path) -> None:
    with another_process(tmp_path / "run") as owner:
        for _ in range(2):
            with pytest.raises(FolderInUseError) as refused, FolderLock(tmp_path / "run"):
                pytest.fail("it went in")
            message = str(refused.value)
            told = f"{tmp_path / 'run'}: process {owner.pid} on {platform.node()} (-c) works in it"
            assert message.startswith(f"{told} since 20")
            assert message.endswith("wait for its end, end it, or choose another folder")
    with FolderLock(tmp_path / "run") as lock:
        lock.acquire()


def test_a_killed_owner_holds_nothing(tmp_path: Path) -> None:
    with another_process(tmp_path) as owner:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        left = owner_of(tmp_path)
        assert left is not None
        assert left["pid"] == owner.pid
        with FolderLock(tmp_path):
            now = owner_of(tmp_path)
            assert now is not None
            assert now["pid"] == os.getpid()
    assert owner_of(tmp_path) is None


def test_an_owner_that_has_not_said_yet_who_it_is_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a killed one is not given in its place."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    monkeypatch.setattr("synther.runs.lock.PATIENCE", 0.1)
    held = filelock.FileLock(tmp_path / ".lock")
    with held:
        with pytest.raises(FolderInUseError, match="another process works in it"):
            FolderLock(tmp_path).acquire()
        (tmp_path / ".owner.json").write_text(f'{{"pid": {dead.pid}, "host": "{platform.node()}"}}')
        waits = []

        def sleep(_: float) -> None:
            waits.append(1)
            if len(waits) == 3:
                held.release()

        monkeypatch.setattr("synther.runs.lock.time.sleep", sleep)
        monkeypatch.setattr("synther.runs.lock.PATIENCE", 60.0)
        lock = FolderLock(tmp_path)
        lock.acquire()
        assert len(waits) == 3
        lock.release()


def test_a_folder_that_is_not_there_is_made_by_acquire_alone(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "a" / "b") as lock:
        assert not (tmp_path / "a").exists()
        lock.acquire()
        lock.acquire()
        assert owner_of(tmp_path / "a" / "b") is not None
        with pytest.raises(FolderInUseError), FolderLock(tmp_path / "a" / "b"):
            pytest.fail("it went in")
    with FolderLock(None) as nowhere:
        nowhere.acquire()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "a", "b"]


def test_where_there_are_no_locks_it_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> None:
        def acquire(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(filelock.FileLock, "acquire", acquire)

    fail(errno.ENOLCK)
    with pytest.warns(UserWarning, match="has no locks"), FolderLock(tmp_path):
        pass
    fail(errno.EROFS)
    with pytest.raises(OSError) as refused, FolderLock(tmp_path):
        pass
    assert (refused.value.errno, refused.value.filename) == (errno.EROFS, str(tmp_path))

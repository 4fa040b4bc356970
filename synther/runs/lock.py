"""A folder has one owner at a time: the process that holds the lock in it.

The operating system keeps the lock, so that a killed owner's is free at once. ``.lock`` stays in
the folder: removing it could give two processes a lock each. ``.owner.json`` says who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import sys
import time
import warnings
from pathlib import Path

from filelock import FileLock, Timeout

from synther.files import atomic
from synther.files.checkpoint import CheckpointError

LOCK, OWNER = ".lock", ".owner.json"
"""The names of the two files in a folder."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What a file system without locks says."""
PATIENCE = 5.0
"""Seconds in which an owner that has just come has said who it is."""


class FolderInUseError(CheckpointError):
    """Another process works in the folder; the message says which one, where, and since when."""


class FolderLock:
    """The lock on a folder, held from the ``with`` statement to the end of its block.

    A folder that is not there yet is made and locked by :meth:`acquire` alone, so that a command
    whose settings are wrong leaves no folder behind.

    Args:
        folder: the folder; None has no lock and takes none.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._lock: FileLock | None = None

    def acquire(self) -> None:
        """Make the folder and hold its lock; do nothing where it is held already.

        Raises:
            FolderInUseError: another process holds it.
            OSError: the folder cannot be made or written; it names the folder.
        """
        if self.folder is None or self._lock is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(os.fspath(self.folder / LOCK), thread_local=False)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                # The owner may have gone, or come, since; one that was killed has left its name.
                owner = owner_of(self.folder)
                if (owner and not _is_dead(owner)) or time.monotonic() > deadline:
                    raise FolderInUseError(_in_use(self.folder, owner)) from None
                time.sleep(0.02)
            except (OSError, NotImplementedError) as error:
                number = error.errno if isinstance(error, OSError) else errno.ENOSYS
                if number not in NO_LOCKS:
                    reason = os.strerror(number) if number else str(error)
                    raise OSError(number, reason, os.fspath(self.folder)) from error
                warnings.warn(
                    f"{self.folder}: its file system has no locks; see to it that no other command "
                    "works in this folder",
                    stacklevel=3,
                )
                break
        self._lock = lock
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        content = {"pid": os.getpid(), "host": platform.node(), "started": started}
        atomic.write_json(self.folder / OWNER, {**content, "command": Path(sys.argv[0]).name})

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._lock is not None and self.folder is not None:
            with contextlib.suppress(OSError):  # the disk may have failed, and the run with it
                (self.folder / OWNER).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def __enter__(self) -> FolderLock:
        if self.folder is not None and self.folder.is_dir():
            self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def owner_of(folder: Path) -> dict[str, object] | None:
    """What the owner said of itself: ``pid``, ``host``, ``started``, ``command``; None where it has
    not yet, or no more."""
    try:
        content = json.loads((folder / OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _is_dead(owner: dict[str, object]) -> bool:
    """Whether it was a process of this machine that is no more."""
    pid = owner.get("pid")
    if owner.get("host") != platform.node() or not isinstance(pid, int) or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _in_use(folder: Path, owner: dict[str, object] | None) -> str:
    if owner is None:
        who = "another process works in it"
    else:
        pid, host, started = (owner.get(key, "?") for key in ("pid", "host", "started"))
        who = f"process {pid} on {host} ({owner.get('command')}) works in it since {started}"
    return f"{folder}: {who}; wait for its end, end it, or choose another folder"

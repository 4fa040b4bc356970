"""Small and read-only disks, and data on an ordinary one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.runs import write_data

Mount = Callable[[str], Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small data set on an ordinary disk."""
    return write_data(tmp_path / "data.npz")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mount]:
    """``disk(options)`` mounts a disk in memory with them; skipped where that is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("no mount command")
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)

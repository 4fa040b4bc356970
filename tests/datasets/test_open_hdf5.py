"""An HDF5 file that somebody else has open is read, or said to be open: it is not damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from synther.datasets.files import read_hdf5
from synther.datasets.vd4rl import write_vd4rl
from synther.datasets.vd4rl_files import read_part
from synther.transitions import TransitionError


@pytest.mark.parametrize("mode", ["r", "r+", "a"])
@pytest.mark.parametrize("locking", [None, True, False])
def test_a_file_that_is_open_in_this_process_is_read(
    write_hdf5: Callable[..., Path], mode: Any, locking: bool | None
) -> None:
    path = write_hdf5()
    expected = read_hdf5(path)
    with h5py.File(path, mode, locking=locking):
        found = read_hdf5(path)
    np.testing.assert_array_equal(found.observations, expected.observations)


WRITER = """
import sys, h5py
file = h5py.File(sys.argv[1], "a", libver="latest")
file.swmr_mode = True
print("open", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_writes_is_said_to_be_open(
    write_hdf5: Callable[..., Path],
) -> None:
    path = write_hdf5()
    with h5py.File(path, "w", libver="latest") as file:
        file["rewards"] = np.zeros(20)
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(TransitionError, match="is open for writing elsewhere") as refused:
            read_hdf5(path)
        assert "delete" not in str(refused.value)
        writer.communicate(b"")


def test_pixel_files_are_opened_alike(tmp_path: Path) -> None:
    columns = {
        "observation": np.zeros((3, 3, 84, 84), np.uint8), "action": np.zeros((3, 1), np.float32),
        "reward": np.zeros(3, np.float32), "discount": np.ones(3, np.float32),
        "step_type": np.array([0, 1, 2]),
    }  # fmt: skip
    path = write_vd4rl(tmp_path / "episodes.hdf5", columns, {})
    with h5py.File(path, "r+"):
        assert read_part(path).shape == (3, 3, 84, 84)

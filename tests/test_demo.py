"""The demo can be stopped at each of its steps, and goes on there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.signals import hear_ctrl_c

FLAGS = ("--steps", "60", "--num_samples", "600", "--updates", "40")


def demo(folder: Path, *flags: str) -> subprocess.Popen[str]:
    """The command, in a process group of its own, as a terminal starts it."""
    words = [sys.executable, "-m", "synther", "demo", "--folder", str(folder), *FLAGS, *flags]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "COLUMNS": "500"},
        preexec_fn=hear_ctrl_c,
    )  # fmt: skip


def stopped_once(process: subprocess.Popen[str], pattern: str, folder: Path) -> str:
    """What it says that is stopped by Ctrl-C as soon as it has such a file."""
    while process.poll() is None and not list(folder.glob(pattern)):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130, said[-2000:]
    return said


@pytest.mark.slow
def test_the_demo_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    said = stopped_once(demo(folder), "diffusion/model-60.pt", folder)
    assert "Traceback" not in said
    assert "goes on with: synther demo --resume" in said
    model = folder / "diffusion/model-60.pt"
    stopped_once(demo(folder, "--resume"), "td3_bc/SynthER-*/config.yaml", folder)
    (real,) = folder.glob("td3_bc/Real-*/result.json")
    before = [path.stat().st_mtime_ns for path in (model, real)]
    process = demo(folder, "--resume")
    said, _ = process.communicate()
    assert process.returncode == 0, said[-2000:]
    assert [path.stat().st_mtime_ns for path in (model, real)] == before
    assert len(list(folder.glob("td3_bc/*"))) == 2  # nothing was begun a second time
    assert "SynthER on hopper-demo-v0" in said


@pytest.mark.slow
def test_the_demo_begins_anew_without_the_flag(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    for runs in (2, 4):
        process = demo(folder)
        said, _ = process.communicate()
        assert process.returncode == 0, said[-2000:]
        assert len(list(folder.glob("td3_bc/*/result.json"))) == runs

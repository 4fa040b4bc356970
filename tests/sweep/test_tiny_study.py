"""The ``tiny`` study on Ray: a command, a worker and the driver are killed half way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from synther.installed import CHECKOUT as ROOT
from synther.sweeps.jobs import Job, record
from synther.sweeps.plan import build_plan
from synther.sweeps.study import load_study

STUDY = ROOT / "config/sweeps/tiny.yaml"
PATIENCE = 3600.0


def start(root: Path) -> subprocess.Popen[bytes]:
    words = [str(ROOT / "synther/sweep.py"), "--study", str(STUDY), "--folder", str(root)]
    with open(root.parent / "out.txt", "ab") as out:
        return subprocess.Popen([sys.executable, *words], stdout=out, stderr=out)


def commands_of(root: Path) -> list[int]:
    """Ids of the processes that write into the study's folder, its driver aside."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().split(b"\0")
        except OSError:
            continue
        inside = any(word.startswith(str(root).encode() + b"/") for word in words)
        if inside and not any(word.endswith(b"launch.py") for word in words):
            found.append(int(each.parent.name))
    return found


def parent_of(pid: int) -> int:
    """The process that started another; of a command, Ray's worker."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_until(condition: Callable[[], object], driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition() and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert driver.poll() is None, "the study ended before it was killed"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_half_way_and_finished_by_the_same_command(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("mujoco")
    root = tmp_path / "tiny"
    plan = build_plan(load_study(STUDY))

    def done() -> list[Job]:
        return [job for job in plan if job.is_done(root)]

    driver = start(root)
    wait_until(lambda: done() and commands_of(root), driver)
    victim = commands_of(root)[0]
    os.kill(victim, signal.SIGKILL)  # a command; its job is started again
    wait_until(lambda: len(done()) >= len(plan) // 4 and commands_of(root), driver)
    child = commands_of(root)[0]
    os.kill(parent_of(child), signal.SIGKILL)  # Ray's worker, and its command with it
    wait_until(lambda: child not in commands_of(root), driver)
    wait_until(lambda: len(done()) >= len(plan) // 2 and commands_of(root), driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    finished = {job.name: record(job, root)["starts"] for job in done()}
    results = {file: file.stat().st_mtime_ns for file in root.rglob("result.json")}
    assert len(finished) < len(plan)

    assert start(root).wait() == 0
    assert len(done()) == len(plan)
    for name, starts in finished.items():
        state = json.loads((root / name / "state.json").read_text())
        assert state["starts"] == starts, f"{name} was done and was started again"
    for file, written in results.items():
        assert file.stat().st_mtime_ns == written
    starts = {job.name: record(job, root)["starts"] for job in plan}
    assert sum(starts.values()) > len(plan)  # the killed ones
    assert not commands_of(root)
    summary = json.loads((root / "report/summary.json").read_text())
    assert summary["unfinished"] == []
    runs = sum(len(cell["seeds"]) for group in summary["groups"] for cell in group["cells"])
    assert runs == sum(len(job.seeds) for job in plan)
    for name in ("report.md", "report.tex", "curves.png"):
        assert (root / "report" / name).stat().st_size > 500

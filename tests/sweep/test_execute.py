"""Jobs in processes of their own: results, failures, locks, and who dies with whom."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synther.sweeps.execute import FINAL, FolderInUseError, last_line, locked, run_job
from synther.sweeps.jobs import record
from tests.sweep.helpers import SUCCEED, fake_job, starts_of

SLEEP = "import time; (run / 'pid').write_text(str(__import__('os').getpid())); time.sleep(900)\n"


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 300
    while not (path.exists() and path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return path.read_text()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z " not in stat.read_text()


def test_a_job_is_done_once(tmp_path: Path) -> None:
    job = fake_job(tmp_path, "data/a", SUCCEED + "print('made it')\n")
    assert run_job(job, tmp_path).failure == ""
    assert run_job(job, tmp_path).failure == ""
    assert starts_of(job, tmp_path) == 1
    told = record(job, tmp_path)
    assert (told["state"], told["starts"], told["reason"]) == ("done", 1, "")
    log = (job.folder(tmp_path) / "log.txt").read_text()
    assert "$ python3" in log
    assert last_line(job.folder(tmp_path) / "log.txt") == "made it"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise SystemExit('no such thing')\n", "exit code 1: no such thing"),
        ("import os; os.kill(os.getpid(), 9)\n", "killed by SIGKILL"),
        ("print('all well')\n", r"ended without a result \(all well\)"),
    ],
)
def test_a_failure_says_why(body: str, reason: str, tmp_path: Path) -> None:
    job = fake_job(tmp_path, "data/a", body)
    outcome = run_job(job, tmp_path)
    assert re.fullmatch(reason, outcome.failure)
    assert record(job, tmp_path)["state"] == "failed"
    assert not outcome.final


@pytest.mark.parametrize("code", FINAL)
def test_an_error_that_would_come_again_is_final(code: int, tmp_path: Path) -> None:
    job = fake_job(tmp_path, "data/a", f"raise SystemExit({int(code)})\n")
    assert run_job(job, tmp_path).final


def test_a_job_of_other_settings_is_not_started(tmp_path: Path) -> None:
    job = fake_job(tmp_path, "data/a", "pass\n")
    run_job(job, tmp_path)
    other = fake_job(tmp_path, "data/a", "pass\n")
    object.__setattr__(other, "words", (*other.words, "--more"))
    outcome = run_job(other, tmp_path)
    assert "other settings" in outcome.failure
    assert outcome.final
    assert starts_of(job, tmp_path) == 1


def test_a_folder_has_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synther.sweeps.execute.LOCK_PATIENCE", 0.3)
    job = fake_job(tmp_path, "data/a", SUCCEED)
    with locked(job.folder(tmp_path) / "lock"):
        assert f"process {os.getpid()} works in it" in run_job(job, tmp_path).failure
        with pytest.raises(FolderInUseError), locked(job.folder(tmp_path) / "lock"):
            pass
    assert run_job(job, tmp_path).failure == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's")
def test_a_command_dies_with_its_worker_and_frees_the_folder(tmp_path: Path) -> None:
    job = fake_job(tmp_path, "data/a", SLEEP)
    script = (
        "from pathlib import Path\nfrom tests.sweep.helpers import *\n"
        "from synther.sweeps.execute import run_job\n"
        f"root = Path({str(tmp_path)!r})\n"
        f"run_job(fake_job(root, 'data/a', {SLEEP!r}), root)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    child = int(wait_for(job.run(tmp_path) / "pid"))
    with pytest.raises(FolderInUseError), locked(job.folder(tmp_path) / "lock"):
        pass
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    with locked(job.folder(tmp_path) / "lock", patience=300):
        assert not is_alive(child)
    assert record(job, tmp_path)["state"] == "running"  # nobody was left to say otherwise


def test_the_last_state_of_a_progress_bar_is_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"first\nbar 10%\rbar 20%\r\n\n")
    assert last_line(log) == "bar 20%"
    assert last_line(tmp_path / "none.txt") == ""

"""``accelerate launch`` with two processes on the CPU: the whole command, faults, and resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from synther.diffusion.train_diffuser import main
from synther.files import checkpoint
from synther.runs.loggers import read_metrics
from synther.transitions import Transitions
from tests.data import random_transitions
from tests.diffusion.test_train_diffuser import arguments, equal

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SCRIPT = "synther/diffusion/train_diffuser.py"
# Without --multi_gpu accelerate starts a single process on a machine without GPUs.
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
LAUNCH += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
LAUNCH += ["--dynamo_backend", "no", "--main_process_port", "0"]

MARK = {"SYNTHER_LAUNCH": str(os.getpid())}
"""In the environment of what is launched here, to be found by."""

FAILING = """
import errno, os, signal, sys
from synther.diffusion import train_diffuser
from synther.diffusion.training.step import TrainingStep
update = TrainingStep.update
def update_or_fail(self, batches):
    if os.environ["RANK"] == os.environ["FAILING_RANK"] and self.step == 7:
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")
    return update(self, batches)
TrainingStep.update = update_or_fail
train_diffuser.main()
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return random_transitions(200).save(tmp_path / "data.npz")


def start(words: list[str], script: str = SCRIPT, **environment: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [*LAUNCH, script, *words],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", **MARK, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def launched_processes() -> dict[int, str]:
    """The launcher and all that it started, each in a session of its own: process id -> rank."""
    running = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    environments = {pid: environment_of(pid) for pid in running}
    return {
        pid: each.get("RANK", "launcher")
        for pid, each in environments.items()
        if each.items() >= MARK.items()
    }


def environment_of(pid: int) -> dict[str, str]:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has just ended, or is another user's
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def ended(launched: subprocess.Popen[str], timeout: float = 900) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; the pipes close only when the last process has ended."""
    try:
        out, errors = launched.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(launched_processes())
        raise
    return launched.returncode, out, errors


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], object], launched: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 900
    while not condition():
        assert launched.poll() is None, launched.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_command_trains_and_samples_in_two_processes(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = arguments(dataset, folder)
    code, out, errors = ended(start(words))
    assert code == 0, errors
    assert "2 processes, on cpu" in out
    assert out.count("fidelity.json") == 1  # one of them speaks
    assert list(checkpoint.steps(folder, "model")) == [25, 50, 60]
    assert [each["step"] for each in read_metrics(folder / "metrics.jsonl")] == [*range(10, 61, 10)]
    assert not list(folder.glob("previous-*"))

    # One process samples the same rows from the same model, and its own run is the same.
    main([*words, "--load_checkpoint", "--save_file_name", "alone.npz"])
    alone, shared = (Transitions.load(folder / name) for name in ("alone.npz", "samples.npz"))
    for name, array in alone.arrays().items():
        np.testing.assert_array_equal(array, getattr(shared, name))
    main(arguments(dataset, tmp_path / "alone", "--no_save_samples"))
    curves = [
        [each["loss"] for each in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("run", "alone")
    ]
    np.testing.assert_allclose(*curves, rtol=1e-4)


def test_a_run_whose_processes_are_killed_resumes_to_the_same_bits(
    dataset: Path, tmp_path: Path
) -> None:
    gin = ("Trainer.train_num_steps=3000", "Trainer.save_and_sample_every=None")
    gin += ("Trainer.resume_every=0.01",)
    whole, killed = (
        arguments(dataset, tmp_path / name, "--no_save_samples", gin=gin)
        for name in ("whole", "killed")
    )
    launched = start(killed)
    wait_for(lambda: checkpoint.steps(tmp_path / "killed", "resume"), launched)
    kill(launched_processes())
    launched.communicate()
    assert max(checkpoint.steps(tmp_path / "killed", "resume")) < 3000
    assert not checkpoint.steps(tmp_path / "killed", "model")
    for words in ([*killed, "--resume"], whole):
        code, _, errors = ended(start(words))
        assert code == 0, errors
    assert equal(
        *(checkpoint.load(tmp_path / name / "model-3000.pt") for name in ("whole", "killed"))
    )


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_error_in_one_process_ends_all_with_one_message(
    rank: str, dataset: Path, tmp_path: Path
) -> None:
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    words = arguments(dataset, tmp_path / "run")
    code, _, errors = ended(
        start(words, str(script), FAILING_RANK=rank, PYTHONPATH=str(REPOSITORY))
    )
    assert code != 0
    assert errors.count("error: somewhere: No space left on device") == 1, errors
    assert errors.count("error: ") == 1, errors


def test_an_error_in_all_processes_has_one_message(dataset: Path, tmp_path: Path) -> None:
    words = arguments(dataset, tmp_path / "run", "--dataset", "hoper-random-v2")
    code, _, errors = ended(start(words))
    assert code != 0
    assert errors.count("did you mean hopper-random-v2") == 1, errors
    assert not (tmp_path / "run").exists()


def test_a_process_that_is_killed_ends_the_others(dataset: Path, tmp_path: Path) -> None:
    gin = ("Trainer.train_num_steps=100000", "Trainer.save_and_sample_every=None")
    launched = start(arguments(dataset, tmp_path / "run", gin=gin))
    wait_for((tmp_path / "run" / "metrics.jsonl").exists, launched)
    kill(pid for pid, rank in launched_processes().items() if rank == "1")
    code, _, errors = ended(launched)
    assert code != 0
    assert errors.count("error: ") <= 1, errors  # none where the launcher is faster
    assert "Connection closed by peer" not in errors


def test_ctrl_c_ends_all_with_one_message(dataset: Path, tmp_path: Path) -> None:
    gin = ("Trainer.train_num_steps=100000", "Trainer.save_and_sample_every=None")
    launched = start(arguments(dataset, tmp_path / "run", gin=gin))
    wait_for((tmp_path / "run" / "metrics.jsonl").exists, launched)
    os.killpg(launched.pid, signal.SIGINT)
    code, _, errors = ended(launched)
    assert code != 0
    assert errors.count("stopped; --resume continues") == 1, errors

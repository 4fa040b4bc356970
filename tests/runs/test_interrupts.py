"""Ctrl-C ends a command with a word and exit code 130, whenever it comes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.signals import hear_ctrl_c

REPOSITORY = Path(__file__).parents[2]
AT_IMPORT_OF = """
import signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""
FILES = ["synther/diffusion/train_diffuser.py", "synther/online/online_exp.py",
         "synther/corl/algorithms/td3_bc.py", "synther/pixels/drq_bc.py", "synther/report.py",
         "synther/sweep.py"]  # fmt: skip


def interrupted(words: list[str], module: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process that gets Ctrl-C when it first imports ``module``."""
    (folder / "sitecustomize.py").write_text(AT_IMPORT_OF.format(module=module))
    path = os.pathsep.join([str(folder), str(REPOSITORY)])
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        preexec_fn=hear_ctrl_c,
    )


@pytest.mark.parametrize("module", ["numpy", "torch"])
@pytest.mark.parametrize("command", FILES)
def test_while_a_command_imports(command: str, module: str, tmp_path: Path) -> None:
    done = interrupted([str(REPOSITORY / command), "--help"], module, tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (130, "\nstopped\n", "")


def test_while_a_module_that_is_started_imports(tmp_path: Path) -> None:
    done = interrupted(["-m", "synther.report", "--help"], "torch", tmp_path)
    assert (done.returncode, done.stderr) == (130, "\nstopped\n")


def test_a_program_of_somebody_else_keeps_its_own_way(tmp_path: Path) -> None:
    code = "import synther\ntry:\n import torch\nexcept KeyboardInterrupt:\n print('mine')"
    assert interrupted(["-c", code], "torch", tmp_path).stdout == "mine\n"


LOST = """
import ctypes, signal, sys, time
from synther.runs.commands import command_errors

def callback():
    for _ in range(3):  # an exception is lost inside, whenever it comes
        signal.raise_signal(signal.SIGINT)

called = ctypes.CFUNCTYPE(None)(callback)
with command_errors():
    called()
    print("went on", flush=True)
    time.sleep(60)
    print("to its end", flush=True)
"""


def test_inside_a_callback_of_c() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST], env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=50,
        preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert done.stdout == "went on\n"
    assert done.stderr.endswith("stopped; --resume continues from the last checkpoint\n")


def test_other_exceptions_of_a_callback_are_reported_as_before() -> None:
    code = LOST.replace("signal.raise_signal(signal.SIGINT)", "raise KeyError('own')").replace(
        "time.sleep(60)", "pass"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert "KeyError: 'own'" in done.stderr

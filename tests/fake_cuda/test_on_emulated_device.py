"""Starts the tests that need a CUDA device on the emulated one; the device is process-wide."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.fake_cuda import guard

TESTS = Path(__file__).parents[1]
MARKS = ("gpu", "any_device")
WANTED = f"({' or '.join(MARKS)}) and not compiles and not slow"


def files_with_such_tests() -> list[str]:
    """To collect all the others would take as long as to run these."""
    texts = {path: path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")}
    return sorted(
        str(path) for path, text in texts.items() if any(f"mark.{each}" in text for each in MARKS)
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="the tests run on this CUDA device itself")
def test_the_tests_of_the_gpu_pass_on_an_emulated_one() -> None:
    if reason := guard.obstacle():
        pytest.skip(reason)
    command = [sys.executable, "-m", "pytest", "-p", "tests.fake_cuda.plugin", "-m", WANTED]
    command += ["-q", "-p", "no:cacheprovider", *files_with_such_tests()]
    env = {**os.environ, "SYNTHER_TEST_DEVICE": "cuda"}
    done = subprocess.run(command, cwd=TESTS.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]

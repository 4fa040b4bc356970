"""Starts the tests that need a CUDA device on the emulated one; the device is process-wide."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.fake_cuda import guard

ROOT = Path(__file__).parents[2]
WANTED = "(gpu or any_device) and not compiles and not slow"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the tests run on this CUDA device itself")
def test_the_tests_of_the_gpu_pass_on_an_emulated_one() -> None:
    if reason := guard.obstacle():
        pytest.skip(reason)
    command = [sys.executable, "-m", "pytest", "-p", "tests.fake_cuda.plugin", "-m", WANTED]
    command += ["-q", "-p", "no:cacheprovider", "tests"]
    environment = {**os.environ, "SYNTHER_TEST_DEVICE": "cuda"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]

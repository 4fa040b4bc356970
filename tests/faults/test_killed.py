"""SIGKILL at random moments, many times, of every kind of run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.kill_chain import MOMENTS

REPOSITORY = Path(__file__).parents[2]
KILLS = int(os.environ.get("SYNTHER_FAULTS", "50"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_random_moments_and_resumed_to_the_same_bits(moment: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.faults.kill_chain", moment, str(KILLS), str(tmp_path)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["kills"] == KILLS
    assert counts["runs_finished"] >= 1

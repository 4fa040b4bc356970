"""Two commands in one folder: a few rounds of every kind here, a hundred in the slow tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.runs import KINDS

REPOSITORY = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("SYNTHER_FAULTS", "100"))


def share(kind: str, rounds: int, folder: Path) -> dict[str, int]:
    words = [sys.executable, "-m", "tests.faults.sharing_chain", kind, str(rounds), str(folder)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["rounds"] == rounds == counts["refused"] + counts["one_after_the_other"]
    return dict(counts)


@pytest.mark.parametrize("kind", ["training", "offline", "online"])
def test_two_commands_in_one_folder_a_few_times(kind: str, tmp_path: Path) -> None:
    share(kind, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_commands_in_one_folder_at_many_moments(kind: str, tmp_path: Path) -> None:
    assert share(kind, ROUNDS, tmp_path)["refused"] >= 1

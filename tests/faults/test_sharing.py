"""Two commands in one folder: a few rounds of every kind here, a hundred in the slow tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.kill_chain import run_once
from tests.faults.runs import KINDS
from tests.faults.sharing_chain import NAMES, Sharing

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


@pytest.mark.parametrize("last", NAMES)
def test_either_of_two_that_finish_may_have_come_last(last: str, tmp_path: Path) -> None:
    """Of two that start together, a busy machine may run the later one first."""
    sharing = Sharing("training", tmp_path, seed=0)
    (other,) = {*NAMES} - {last}
    results = tmp_path / "both"
    for name in (other, last):
        assert run_once(sharing.start(name, results), sharing.log(name)).code == 0
    folder = results / sharing.run.folder
    sharing.check(0, folder, dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0))
    assert sharing.counts["one_after_the_other"] == 1


def test_a_mixture_of_two_is_told(tmp_path: Path) -> None:
    sharing = Sharing("training", tmp_path, seed=0)
    results = tmp_path / "both"
    for name in NAMES:
        assert run_once(sharing.start(name, results), sharing.log(name)).code == 0
    folder = results / sharing.run.folder
    shutil.copy(folder / "previous-1/metrics.jsonl", folder / "metrics.jsonl")
    with pytest.raises(SystemExit, match=r"is not (first|second)'s: /metrics\.jsonl/0/loss"):
        sharing.check(0, folder, dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_commands_in_one_folder_at_many_moments(kind: str, tmp_path: Path) -> None:
    assert share(kind, ROUNDS, tmp_path)["refused"] >= 1

"""An error at the very end of a run takes nothing of its work away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from synther.diffusion import train_diffuser
from synther.files import checkpoint
from synther.online import online_exp
from synther.transitions import Transitions
from tests.faults.runs import KINDS, write_data

REPOSITORY = Path(__file__).parents[2]
NAME = "[lr=1e-3][/x] é"
LAST = {"diffusion": "marginals.png", "offline": "result.json", "online": "checkpoint-80.pt"}
START = """
import sys
from tests.faults.runs import KINDS
KINDS[sys.argv[1]].start(sys.argv[2:])
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminal_without_the_letters_of_a_name_ends_no_run(kind: str, tmp_path: Path) -> None:
    """Nor do brackets, which are rich's way to ask for colours."""
    run, results = KINDS[kind], tmp_path / NAME
    data = write_data(tmp_path / "data.npz")
    words = run.words(data, results)
    if kind == "online":
        words[:0] = ["--save_replay", str(results / "replay.npz")]
    done = subprocess.run(
        [sys.executable, "-c", START, kind, *words],
        cwd=REPOSITORY,
        env={**os.environ, "LANG": "C", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    said = done.stdout.decode("ascii")
    if kind != "offline":
        assert "[lr=1e-3][/x] \\xe9" in said
    assert (results / run.folder / LAST[kind]).is_file()
    if kind == "online":
        assert len(Transitions.load(results / "replay.npz")) == 80


def test_a_replay_that_cannot_be_written_leaves_the_run_which_writes_it_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, replay = KINDS["online"], tmp_path / "out" / "replay.npz"
    words = run.words(tmp_path, tmp_path)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(replay))

    with monkeypatch.context() as patched:
        patched.setattr(Transitions, "save", fail)
        with pytest.raises(SystemExit) as stopped:
            run.start(["--save_replay", str(replay), *words])
    assert stopped.value.code == 4
    message = capsys.readouterr().err
    assert "No space left on device; free some space" in message
    assert "the run is done and saved: --resume, with a --save_replay that works" in message
    before = (tmp_path / run.folder / "checkpoint-80.pt").read_bytes()
    run.start(["--save_replay", str(replay), *words, "--resume"])
    assert (tmp_path / run.folder / "checkpoint-80.pt").read_bytes() == before
    assert len(Transitions.load(replay)) == 80


@pytest.mark.parametrize("name", ["folder.npz", "file/replay.npz", "file/a/b.hdf5"])
def test_where_a_replay_can_never_be_written_the_run_does_not_begin(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        online_exp.main(
            ["--save_replay", str(tmp_path / name), *KINDS["online"].words(tmp_path, tmp_path)]
        )
    assert stopped.value.code == 1
    assert f"error: --save_replay {tmp_path / name}: " in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"folder.npz", "file"}


def test_a_report_that_fails_says_what_is_there_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ImportError("no backend to draw with")

    monkeypatch.setattr("synther.diffusion.fidelity.marginals_plot.plot_marginals", fail)
    words = KINDS["diffusion"].words(write_data(tmp_path / "data.npz"), tmp_path)
    with pytest.raises(SystemExit) as stopped:
        train_diffuser.main(words)
    assert stopped.value.code == 1
    samples = tmp_path / "run" / "samples.npz"
    assert f"the model and {samples} are written" in capsys.readouterr().err
    assert len(Transitions.load(samples)) == 123
    assert checkpoint.latest(tmp_path / "run", "model") is not None

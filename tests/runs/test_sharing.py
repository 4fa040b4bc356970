"""Every command works alone in its folder, moves nothing before it can start, and trains on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synther.corl.algorithms.iql import IQL, IQLConfig
from synther.files import checkpoint
from synther.pixels import drq_bc
from synther.runs.lock import FolderLock
from synther.runs.loggers import read_metrics
from synther.transitions import Transitions
from tests.faults.runs import DIFFUSION_GIN, KINDS, Kind, difference, outcome, write_data
from tests.pixels.helpers import columns, data_set

HOLD = """
import sys
from pathlib import Path
from synther.runs.lock import FolderLock
with FolderLock(sys.argv[1]) as lock:
    lock.acquire()
    print(flush=True)
    sys.stdin.read()
"""
WRONG = {
    "diffusion": ("--gin_params", *DIFFUSION_GIN, "Trainer.train_lr=-1.0"),
    "online": ("--gin_config_files", "config/online/sac.gin", "--gin_params", "redq_sac.lr=-1.0"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data.npz")


def contents(folder: Path) -> dict[str, bytes]:
    """All files but those of the lock."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: content for name, content in found.items() if not name.endswith(".lock")}


def refused(run: Kind, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a start that comes to nothing."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run.start(words)
    assert stopped.value.code == 1
    return capsys.readouterr().err


# ---- One owner ----
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_is_worked_in_is_left_alone_and_its_owner_named(
    kind: str, resume: bool, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, results = KINDS[kind], tmp_path / "results"
    if kind == "offline" and not resume:
        pytest.skip("it takes a folder of its own")
    run.start(run.words(data, results))
    before = contents(results)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(results / run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        message = refused(run, [*run.words(data, results), *["--resume"] * resume], capsys)
        process.kill()
    assert f"{results / run.folder}: process {process.pid} on " in message
    (results / run.folder / ".owner.json").unlink()  # of the killed one
    assert contents(results) == before
    run.start([*run.words(data, results), "--resume"])  # and nobody holds it now


@pytest.mark.parametrize("words", [("--load_checkpoint",), ("--resume",)])
def test_sampling_again_needs_the_folder_too(
    words: tuple[str, ...], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = KINDS["diffusion"]
    run.start(run.words(data, tmp_path))
    with FolderLock(tmp_path / "run"):
        message = refused(run, [*run.words(data, tmp_path), *words], capsys)
    assert f"process {os.getpid()} on " in message


# ---- Nothing is moved in vain ----
@pytest.mark.parametrize("kind", WRONG)
def test_only_the_files_of_the_earlier_run_are_set_aside(
    kind: str, data: Path, tmp_path: Path
) -> None:
    run, results = KINDS[kind], tmp_path / "results"
    folder = results / run.folder
    run.start(run.words(data, results))
    first = contents(folder)
    foreign = {"notes.md": b"x", "other_run/model-1.pt": b"x", "other_run/run.json": b"{}"}
    for name, content in foreign.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    run.start(run.words(data, results))
    found = contents(folder)
    assert {name: found.pop(name) for name in foreign} == foreign
    aside = {name: found.pop(name) for name in list(found) if name.startswith("previous-1/")}
    assert aside == {f"previous-1/{name}": content for name, content in first.items()}
    assert found.keys() == first.keys()


@pytest.mark.parametrize("name", ["other.npz", "[a] b.npz"])
def test_samples_of_any_name_go_with_their_model_and_others_stay(
    name: str, data: Path, tmp_path: Path
) -> None:
    run = KINDS["diffusion"]
    words = run.words(data, tmp_path)
    run.start(words)
    run.start([*words, "--load_checkpoint", "--save_file_name", name])
    (tmp_path / "run" / "mine.npz").write_bytes(data.read_bytes())
    run.start(words)
    moved = {path.name for path in (tmp_path / "run" / "previous-1").glob("*.npz")}
    assert moved == {"samples.npz", name}
    assert (tmp_path / "run" / "mine.npz").read_bytes() == data.read_bytes()


@pytest.mark.parametrize("kind", WRONG)
def test_a_start_that_fails_has_moved_nothing(
    kind: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, results = KINDS[kind], tmp_path / "results"
    words = run.words(data, results)
    run.start(words)
    before = contents(results)
    refused(run, [*words, *WRONG[kind]], capsys)
    assert contents(results) == before
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "not installed" in refused(run, [*words, "--wandb-mode", "offline"], capsys)
    assert contents(results) == before
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "not installed" in refused(run, [*words, "--tensorboard"], capsys)
    assert contents(results) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_without_a_key_is_found_out_before_anything_starts(
    kind: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(type(wandb.api), "api_key", None)
    run = KINDS[kind]
    words = [*run.words(data, tmp_path / "results"), "--wandb-mode", "online"]
    assert "--wandb-mode online needs a key: run wandb login" in refused(run, words, capsys)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("words", [("--load_checkpoint",), ("--resume",)])
def test_more_samples_are_not_replaced_by_fewer(
    words: tuple[str, ...], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = KINDS["diffusion"]
    run.start(run.words(data, tmp_path))
    fewer = [*run.words(data, tmp_path), *words, "--save_num_samples", "122"]
    before = contents(tmp_path)
    message = refused(run, fewer, capsys)
    assert "samples.npz: holds 123 samples, and --save_num_samples 122 would replace" in message
    assert contents(tmp_path) == before
    run.start([*fewer, "--save_file_name", "few.npz"])
    assert len(Transitions.load(tmp_path / "run" / "few.npz")) == 122
    run.start([*run.words(data, tmp_path), *words, "--save_num_samples", "124"])
    assert len(Transitions.load(tmp_path / "run" / "samples.npz")) == 124


# ---- The data it began with ----
@pytest.mark.parametrize("kind", ["diffusion", "offline"])
def test_a_run_goes_on_with_the_data_it_began_with(
    kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, results = KINDS[kind], tmp_path / "results"
    run.start(run.words(data, results))
    (results / run.folder / "result.json").unlink(missing_ok=True)  # as if it had been cut off
    rows = Transitions.load(data)
    changed = {**rows.arrays(), "rewards": 50 * rows.rewards + 7}
    Transitions.from_arrays(changed, metadata=rows.metadata).save(data)
    before = contents(results)
    message = refused(run, [*run.words(data, results), "--resume"], capsys)
    assert "data: then " in message or "the data of env have changed" in message
    assert contents(results) == before
    rows.save(data)
    run.start([*run.words(data, results), "--resume"])


def test_an_agent_goes_on_with_the_samples_it_began_with(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, samples = KINDS["offline"], write_data(tmp_path / "samples.npz", 90)
    words = [*run.words(data, tmp_path), "--diffusion.path", str(samples)]
    run.start(words)
    (tmp_path / run.folder / "result.json").unlink()
    write_data(samples, 91)
    message = refused(run, [*words, "--resume"], capsys)
    assert "the data of diffusion.path have changed since the run was started" in message


def pixel_words(root: Path, folder: Path, *more: str) -> list[str]:
    small = {
        "task": "a_b", "level": "mixed", "image_size": 24, "channels": 4, "latent_dim": 3,
        "hidden_width": 16, "batch_size": 6, "device": "cpu", "max_timesteps": 12, "log_every": 2,
        "checkpoint_every": 4, "eval_freq": 6, "n_episodes": 2, "root": root, "folder": folder,
    }  # fmt: skip
    return [word for key, value in small.items() for word in (f"--{key}", str(value))] + [*more]


@pytest.fixture
def _no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "synther.pixels.stages.evaluation", lambda *_: lambda agent: np.array([1.0, 2.0])
    )


PIXELS = Kind(drq_bc.main, lambda data, results: pixel_words(data, results), "", "checkpoint-*.pt")


@pytest.mark.usefixtures("_no_renderer")
def test_pixels_keep_to_the_same_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, folder = tmp_path / "vd4rl", tmp_path / "run"
    data_set(root, columns((40, 30)))
    words = pixel_words(root, folder)
    drq_bc.main(words)
    (folder / "notes.md").write_text("x")
    before = contents(folder)
    with FolderLock(folder):
        assert "works in it" in refused(PIXELS, words, capsys)
    refused(PIXELS, [*words, "--root", str(tmp_path / "nothing")], capsys)
    assert contents(folder) == before
    drq_bc.main(words)
    assert (folder / "notes.md").read_text() == "x"
    assert "result.json" in {path.name for path in (folder / "previous-1").iterdir()}
    (folder / "result.json").unlink()
    data_set(root, columns((40, 30), seed=1))
    message = refused(PIXELS, [*words, "--resume"], capsys)
    assert "the data of task have changed since the run was started" in message


# ---- Longer ----
def longer(kind: str) -> tuple[list[str], int, int]:
    """Words that make a run longer, and its lengths before and after."""
    if kind == "diffusion":
        constant = "Trainer.lr_scheduler=None"
        return ["--gin_params", *DIFFUSION_GIN, constant, "Trainer.train_num_steps=100"], 60, 100
    if kind == "offline":
        return ["--max_timesteps", "60"], 40, 60
    words = KINDS["online"].words(Path(), Path())
    return [*words[words.index("--gin_params") :], "redq_sac.epochs = 6"], 80, 120


def shorter(kind: str) -> list[str]:
    words, _, _ = longer(kind)
    return words[:-1] if kind == "diffusion" else []


def end_of(folder: Path) -> dict[str, Any]:
    """What a run came to: its last checkpoint, but for the length in it, and its samples or the
    evaluations."""
    found = outcome(folder)
    last = checkpoint.furthest(folder, "model", "checkpoint")
    assert last is not None
    state = {key: each for key, each in found[last.name].items() if key not in ("config", "data")}
    state.pop("scheduler", None)
    records = [each for each in found["metrics.jsonl"] if "loss" not in each]
    return {"state": state, "samples": found.get("samples.npz"), "records": records}


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_that_is_made_longer_is_the_long_run(
    kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last bit, where no schedule depends on the length."""
    run, (more, before, after) = KINDS[kind], longer(kind)
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    run.start([*run.words(data, whole), *more])
    run.start([*run.words(data, grown), *shorter(kind)])
    run.start([*run.words(data, grown), *more, "--resume"])
    assert "goes on from step" in capsys.readouterr().out
    assert difference(end_of(grown / run.folder), end_of(whole / run.folder)) is None
    steps = [each["step"] for each in read_metrics(grown / run.folder / "metrics.jsonl")]
    assert steps == sorted(steps)
    assert steps[-1] == after
    (change,) = json.loads((grown / run.folder / "lengthened.json").read_text())
    assert change["step"] == before
    # It is that run now: the same command again finds it done, the first one another run.
    run.start([*run.words(data, grown), *more, "--resume"])
    message = refused(run, [*run.words(data, grown), *shorter(kind), "--resume"], capsys)
    assert "needs the settings" in message
    assert not list(grown.glob("*-2"))


def test_a_finished_run_of_other_settings_is_not_mistaken_for_this_one_in_silence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = KINDS["offline"]
    run.start(run.words(data, tmp_path))
    capsys.readouterr()
    run.start([*run.words(data, tmp_path), "--resume", "--alpha", "1.5"])
    said = capsys.readouterr().out
    assert f"{run.folder}: holds a finished run of other settings (alpha); this is a new" in said
    assert (tmp_path / f"{run.folder}-2" / "result.json").is_file()


def test_a_cosine_follows_the_new_length(data: Path, tmp_path: Path) -> None:
    run = KINDS["diffusion"]
    words = [*run.words(data, tmp_path), "--no_save_samples"]
    run.start(words)
    more = ("--gin_params", *DIFFUSION_GIN, "Trainer.train_num_steps=120")
    run.start([*words, *more, "--resume"])
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    rates = {each["step"]: each["learning_rate"] for each in records}
    length = {step: 60 if step <= 60 else 120 for step in rates}
    expected = {n: 3e-4 * (1 + np.cos(np.pi * n / length[n])) / 2 for n in rates}
    assert rates == pytest.approx(expected, abs=1e-12)
    assert {60, 70, 120} <= rates.keys()


def test_iql_s_cosine_follows_the_new_length(data: Path, tmp_path: Path) -> None:
    from synther.corl.shared.command import command

    run = Kind(lambda words: command(IQLConfig, IQL, words), KINDS["offline"].words, "", "")
    folder = tmp_path / KINDS["offline"].folder
    words = run.words(data, tmp_path)
    run.start(words)
    run.start([*words, "--resume", "--max_timesteps", "80"])
    state = checkpoint.load(folder / "checkpoint-80.pt")
    assert state["step"] == 80
    assert json.loads((folder / "result.json").read_text())["steps"] == 80
    assert json.loads((folder / "result-40.json").read_text())["steps"] == 40


@pytest.mark.usefixtures("_no_renderer")
def test_a_finished_pixel_run_that_is_made_longer_is_the_long_run(tmp_path: Path) -> None:
    root = tmp_path / "vd4rl"
    data_set(root, columns((40, 30)))
    states: list[Any] = []
    for name in ("whole", "grown"):
        if name == "grown":
            drq_bc.main(pixel_words(root, tmp_path / name))
        more = ("--max_timesteps", "20", "--resume")
        drq_bc.main(pixel_words(root, tmp_path / name, *more))
        state = checkpoint.load(tmp_path / name / "checkpoint-20.pt")
        states.append({key: state[key] for key in ("agent", "source", "noise", "step")})
        assert json.loads((tmp_path / name / "result.json").read_text())["steps"] == 20
    assert difference(*states) is None

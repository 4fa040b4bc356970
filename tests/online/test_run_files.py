"""A run that is stopped anywhere and resumed ends with the bits of one that never was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest
import torch

from synther.diffusion.generation.drawing import Drawing
from synther.diffusion.training.step import TrainingStep
from synther.envs import EnvironmentFaultError, Evaluator
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.online.loop import OnlineRun
from synther.online.run_files import RunFiles
from synther.runs import clock
from synther.runs.loggers import read_metrics
from synther.runs.runtime import seed_everything
from tests.online.helpers import Faulty, bind_tiny_diffusion, logs, tiny_run

SYNTHER: dict[str, Any] = {"disable_diffusion": False, "model_terminals": True}


@pytest.fixture(autouse=True)
def _tiny_diffusion() -> Iterator[None]:
    bind_tiny_diffusion()
    yield
    gin.clear_config()


class Killed(BaseException):
    """Caught by nobody on the way."""


def dies_at_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    """``owner.name`` raises at the ``number``-th of its calls, and never again."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **keys: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Killed
        return original(*args, **keys)

    monkeypatch.setattr(owner, name, counted)


def checkpoints_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "WRITING_SHARE", float("inf"))


def everything(run: OnlineRun, folder: Path) -> dict[str, Any]:
    agent, live = run.agent, run.episodes
    saved = checkpoint.load(folder / f"checkpoint-{run.step}.pt")
    transitions, timeouts = run.transitions()
    return {
        "agent": agent.training_state(),
        "generators": {name: each.get_state() for name, each in agent.generators.items()},
        "replay": agent.replay.state_dict(),
        "synthetic": agent.synthetic.valid_rows(),
        "order": torch.from_numpy(transitions.observations),
        "timeouts": torch.from_numpy(timeouts),
        "environment": saved["environment"],
        "live": (
            live.observation.tolist(),
            live.episode_return,
            live.episode_length,
            live.finished,
        ),
        **logs(folder),
    }


def assert_equal(found: Any, expected: Any, where: str = "") -> None:
    """Equality of nested containers, tensors bit for bit."""
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype, where
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_equal(found[key], value, f"{where}/{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), where
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, other, f"{where}/{i}")
    else:
        assert found == expected, where


# What raises, at which of its calls, and whether there is a checkpoint at each step.
MOMENTS: dict[str, tuple[Any, str, int, bool]] = {
    "before the first update": (OnlineRun, "_interact", 6, True),
    "in an episode": (OnlineRun, "_interact", 34, True),
    "after the last epoch's checkpoint": (OnlineRun, "_interact", 34, False),
    "before any checkpoint": (OnlineRun, "_interact", 6, False),
    "in the first evaluation": (Evaluator, "play", 1, False),
    "in the second evaluation": (Evaluator, "play", 2, False),
    "while a model trains": (TrainingStep, "update", 31, False),  # of the second refill
    "while rows are sampled": (Drawing, "at_once", 5, False),
    "while a refill is saved": (RunFiles, "_checkpoint_path", 5, False),
}
SETTINGS = {**SYNTHER, "evaluate_bias": True, "n_mc_eval": 5, "replay_size": 50}
"""A run of 60 steps: past the replay's wrap-around at its end."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    bind_tiny_diffusion()
    folder = tmp_path_factory.mktemp("whole")
    run = tiny_run(folder, "Seeded-v0", **SETTINGS)
    run.train()
    return everything(run, folder)


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_resumed_is_uninterrupted(
    moment: tuple[Any, str, int, bool],
    uninterrupted: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    *call, each_step = moment
    keys = {**SETTINGS, "checkpoint_every": 0.0 if each_step else 1e9}
    if each_step:
        checkpoints_each_step(monkeypatch)
    dies_at_call(monkeypatch, *call)
    with pytest.raises(Killed):
        tiny_run(tmp_path, "Seeded-v0", **keys).train()
    resumed = tiny_run(tmp_path, "Seeded-v0", resume=True, **keys)
    resumed.train()
    assert_equal(everything(resumed, tmp_path), uninterrupted)
    assert not list(tmp_path.rglob("*.partial"))
    for pattern in ("checkpoint-*", "synthetic-*", "replay/*", "diffusion/*"):
        assert len(list(tmp_path.glob(pattern))) == 1, pattern


@pytest.mark.parametrize("relevance", ["curiosity", "td_error", "return", "random"])
def test_resumed_is_uninterrupted_with_relevance(
    relevance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two refills, and while the model of the second one trains."""
    keys = {**SYNTHER, "relevance": relevance, "replay_size": 50, "critic_layer_norm": True}
    whole = tiny_run(tmp_path / "whole", "Seeded-v0", **keys)
    whole.train()
    for number, call in enumerate([(OnlineRun, "_interact", 34), (TrainingStep, "update", 31)]):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            dies_at_call(patch, *call)
            with pytest.raises(Killed):
                tiny_run(folder, "Seeded-v0", checkpoint_every=1e9, **keys).train()
        resumed = tiny_run(folder, "Seeded-v0", resume=True, checkpoint_every=1e9, **keys)
        resumed.train()
        assert_equal(everything(resumed, folder), everything(whole, tmp_path / "whole"))
    refills = read_metrics(tmp_path / "whole" / "refills.jsonl")
    assert all(each["relevance_asked"] > each["relevance"] for each in refills)
    epochs = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    learns = {"LossInverse", "LossForward"} <= epochs[-1].keys()
    assert learns == (relevance == "curiosity")


@pytest.mark.parametrize("step", [3, 22, 41])
def test_resumed_is_uninterrupted_where_rewards_come_from_other_generators(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {**SETTINGS, "checkpoint_every": 0.0}
    seed_everything(0)
    whole = tiny_run(tmp_path / "whole", "Unseeded-v0", **keys)
    whole.train()
    checkpoints_each_step(monkeypatch)
    dies_at_call(monkeypatch, OnlineRun, "_interact", step + 1)
    seed_everything(0)
    with pytest.raises(Killed):
        tiny_run(tmp_path / "killed", "Unseeded-v0", **keys).train()
    seed_everything(1)  # whatever the process drew before
    resumed = tiny_run(tmp_path / "killed", "Unseeded-v0", resume=True, **keys)
    assert resumed.step == step
    resumed.train()
    found, expected = (
        everything(resumed, tmp_path / "killed"),
        everything(whole, tmp_path / "whole"),
    )
    assert_equal(found, expected)


@pytest.mark.parametrize("env", ["HalfCheetah-v2", "reacher-hard-v0", "Pendulum-v1"])
def test_resumed_is_uninterrupted_in_simulators(
    env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mujoco")
    keys = {**SYNTHER, "checkpoint_every": 0.0, "max_ep_len": 13, "epochs": 2}
    whole = tiny_run(tmp_path / "whole", env, **keys)
    whole.train()
    checkpoints_each_step(monkeypatch)
    dies_at_call(monkeypatch, OnlineRun, "_interact", 23)
    with pytest.raises(Killed):
        tiny_run(tmp_path / "killed", env, **keys).train()
    resumed = tiny_run(tmp_path / "killed", env, resume=True, **keys)
    assert (resumed.step, resumed.episodes.episode_length) == (22, 9)
    resumed.train()
    found, expected = (
        everything(resumed, tmp_path / "killed"),
        everything(whole, tmp_path / "whole"),
    )
    assert_equal(found, expected)


def test_nothing_of_a_nan_from_the_environment_is_saved_and_a_mended_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {**SETTINGS, "checkpoint_every": 0.0, "n_evals_per_epoch": 1, "evaluate_bias": False}
    checkpoints_each_step(monkeypatch)
    message = "Faulty-v0: at step 33 the environment gave a reward that is not finite"
    for resume in (False, True):
        with pytest.raises(EnvironmentFaultError, match=message):
            tiny_run(tmp_path, "Faulty-v0", resume=resume, **keys).train()
        (saved,) = tmp_path.glob("checkpoint-*.pt")
        assert saved.name == "checkpoint-32.pt"
        for path in tmp_path.glob("replay/*.npy"):
            assert np.isfinite(np.load(path)).all()
    monkeypatch.setattr(Faulty, "value", np.array([5.0]))  # a reward in an array is one, too
    mended = tiny_run(tmp_path, "Faulty-v0", resume=True, **keys)
    mended.train()
    assert mended.step == 60
    assert mended.transitions()[0].rewards[32 - 60] == 5


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    run = tiny_run(tmp_path)
    run.train()
    before = everything(run, tmp_path)
    again = tiny_run(tmp_path, resume=True)
    again.train()
    assert_equal(everything(again, tmp_path), before)


def test_without_snapshots_the_episode_restarts_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints_each_step(monkeypatch)
    dies_at_call(monkeypatch, OnlineRun, "_interact", 23)
    keys = {"checkpoint_every": 0.0}
    with pytest.raises(Killed):
        tiny_run(tmp_path, "Opaque-v0", **keys).train()
    capsys.readouterr()
    resumed = tiny_run(tmp_path, "Opaque-v0", resume=True, **keys)
    message = " ".join(capsys.readouterr().out.split())
    assert "Opaque-v0 cannot be put back where it stood: a new episode begins" in message
    resumed.train()
    transitions, timeouts = resumed.transitions()
    counts = transitions.observations[:, 1]
    assert counts[21] == 1  # episodes of 6, 4, 6 and 4 steps, and the second of the next
    assert counts[22] == 0
    assert timeouts[21]
    assert transitions.terminals[21] == 0
    assert transitions.next_observations[21, 1] == 2
    ended = (transitions.terminals > 0) | timeouts
    np.testing.assert_array_equal(counts == 0, np.append(True, ended[:-1]))


@pytest.mark.parametrize("saves", [1, 2])
def test_rows_of_a_checkpoint_that_was_cut_off_are_not_taken_for_later_ones(
    saves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resumed run draws other rows, its episode being lost, and comes to the same step."""
    keys = {"checkpoint_every": 1e9, "start_steps": 100, "epochs": 4}

    def run_of(resume: bool) -> OnlineRun:
        original = RunFiles.__init__

        def small_files(self: RunFiles, folder: Path) -> None:
            original(self, folder)
            self.rows.block_rows = 10

        with monkeypatch.context() as patch:
            patch.setattr(RunFiles, "__init__", small_files)
            return tiny_run(tmp_path, "Opaque-v0", resume=resume, **keys)

    dies_at_call(monkeypatch, checkpoint, "save", saves)
    with pytest.raises(Killed):
        run_of(resume=False).train()
    written = (tmp_path / "replay" / f"rows-{20 * saves - 10}-{20 * saves}.npy").read_bytes()
    resumed = run_of(resume=True)
    if saves == 1:  # no checkpoint: it begins anew, elsewhere for the sake of the test
        resumed.begin_other_episode()
    resumed.train()
    rewritten = (tmp_path / "replay" / f"rows-{20 * saves - 10}-{20 * saves}.npy").read_bytes()
    assert rewritten != written
    again = run_of(resume=True)
    assert_equal(again.agent.replay.state_dict(), resumed.agent.replay.state_dict())


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    tiny_run(tmp_path).train()
    left = [tmp_path / ".checkpoint-60.pt.123.partial", tmp_path / "replay" / ".a.npy.1.partial"]
    left += [tmp_path / "synthetic-7.npy", tmp_path / "replay" / "rows-60-70.npy"]
    for path in left:
        path.touch()
    tiny_run(tmp_path, resume=True)
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("pattern", ["checkpoint-*.pt", "rows-*.npy", "synthetic-*.npy"])
def test_a_damaged_file_is_named(pattern: str, tmp_path: Path) -> None:
    tiny_run(tmp_path, **SYNTHER).train()
    (path,) = tmp_path.rglob(pattern)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=path.name):
        tiny_run(tmp_path, resume=True, **SYNTHER)

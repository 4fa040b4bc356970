"""Both stages from the command line, without a renderer: training, resume, and clear refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synther.diffusion.provenance import Provenance
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError, DivergedError
from synther.learning.sources import MixedSource
from synther.pixels import drq_bc, encode, stages
from synther.pixels.config import DiffusionSource, PixelConfig
from synther.pixels.frame_replay import FrameReplay
from synther.pixels.image_agent import DrQBC
from synther.runs.folder import checkpoint_in
from synther.runs.loggers import read_metrics
from synther.transitions import TransitionLayout, Transitions
from tests.data import random_transitions
from tests.events import assert_shows
from tests.pixels.helpers import SIZE, columns, config, data_set


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the simulator: returns that depend on what the agent does."""

    def evaluation(settings: Any, seen: Any, action_dim: int) -> Callable[[Any], Any]:
        images = np.random.default_rng(0).integers(0, 256, (2, 9, SIZE, SIZE), dtype=np.uint8)
        return lambda agent: 100 + agent.act(images).sum(axis=1).astype(np.float64)

    monkeypatch.setattr(stages, "evaluation", evaluation)


class Killed(Exception):
    pass


def kill_at(monkeypatch: pytest.MonkeyPatch, batches: int, source: type = FrameReplay) -> None:
    sample, left = source.sample, [batches]

    def sample_or_die(self: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return sample(self)

    monkeypatch.setattr(source, "sample", sample_or_die)


def final(folder: Path) -> dict[str, Any]:
    state = checkpoint.load(checkpoint_in(folder))
    records = [
        {key: value for key, value in record.items() if key not in ("time", "updates_per_second")}
        for record in read_metrics(folder / "metrics.jsonl")
    ]
    return {"agent": state["agent"], "records": records, "evaluations": state["evaluations"]}


def assert_same(found: Any, expected: Any) -> None:
    """Equal to the last bit, tensors among nested values too."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize("algo", ["drq_bc", "bc"])
def test_a_killed_run_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algo: str
) -> None:
    data_set(tmp_path)
    whole = config(root=str(tmp_path), folder=str(tmp_path / "whole"), algo=algo)
    result = stages.train(whole)
    assert [each["step"] for each in result["evaluations"]] == [6, 12]
    cut = config(root=str(tmp_path), folder=str(tmp_path / "cut"), algo=algo, resume=True)
    with monkeypatch.context() as patch:
        kill_at(patch, 5)
        with pytest.raises(Killed):
            stages.train(cut)
    again = stages.train(cut)
    assert_same(final(tmp_path / "cut"), final(tmp_path / "whole"))
    assert again["returns"] == result["returns"]
    assert stages.train(cut) == again  # finished: nothing is trained again


def test_resume_refuses_other_settings(tmp_path: Path) -> None:
    data_set(tmp_path)
    settings = {"root": str(tmp_path), "folder": str(tmp_path / "run"), "max_timesteps": 2}
    stages.train(config(**settings))
    with pytest.raises(CheckpointError, match=r"\n  batch_size: then 6, now 7$"):
        stages.train(config(**settings, resume=True, batch_size=7))


def test_tensorboard_shows_what_metrics_jsonl_has(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    data_set(tmp_path)
    folder = tmp_path / "run"
    stages.train(config(root=str(tmp_path), folder=str(folder), tensorboard=True))
    assert_shows(folder, read_metrics(folder / "metrics.jsonl"))


def test_an_earlier_run_is_set_aside(tmp_path: Path) -> None:
    data_set(tmp_path)
    settings = config(root=str(tmp_path), folder=str(tmp_path / "run"), max_timesteps=2)
    stages.train(settings)
    stages.train(settings)
    assert (tmp_path / "run" / "previous-1" / "result.json").is_file()


def test_numbers_that_are_not_finite_end_the_run_and_are_not_saved(tmp_path: Path) -> None:
    arrays = columns((40, 30))
    arrays["reward"][:] = 1e30
    data_set(tmp_path, arrays)
    with pytest.raises(DivergedError, match="critic_loss of seed 0 is not finite, seen at step 2"):
        stages.train(config(root=str(tmp_path), folder=str(tmp_path / "run")))
    assert checkpoint.latest(tmp_path / "run", "checkpoint") is None


@pytest.mark.parametrize("number", [1, 3])
def test_a_weight_that_is_not_finite_ends_the_run_and_is_not_saved(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """There is an update every 2 steps, and a checkpoint every 4."""
    data_set(tmp_path)
    update, updates = DrQBC.update, [0]

    def spoiled(self: DrQBC, *given: Any) -> Any:
        metrics = update(self, *given)
        updates[0] += 1
        if updates[0] == number:
            with torch.no_grad():  # of a target, which no loss of this step has seen
                list(self.heads.parameters())[-1].view(-1)[0] = float("nan")
        return metrics

    monkeypatch.setattr(DrQBC, "update", spoiled)
    run_folder = tmp_path / "run"
    with pytest.raises(SystemExit) as left:
        run("--root", tmp_path, "--folder", run_folder, "--checkpoint_every", 4)
    assert left.value.code == 3
    last = checkpoint.latest(run_folder, "checkpoint")
    assert (last is None) == (number == 1)
    error = capsys.readouterr().err
    assert f"seen at step {4 if number == 1 else 8}" in error
    assert error.count(f"last good checkpoint: {last or 'none was written'}") == 1


FLAGS = (
    *("--task", "a_b", "--level", "mixed", "--image_size", SIZE, "--channels", 4),
    *("--latent_dim", 5, "--hidden_width", 16, "--batch_size", 6, "--device", "cpu"),
    *("--max_timesteps", 8, "--log_every", 2, "--eval_freq", 0),
)


def run(*words: object) -> None:
    drq_bc.main([str(word) for word in (*FLAGS, *words)])


def test_the_commands_from_pictures_to_fine_tuned_heads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_set(tmp_path)
    agent, latents = tmp_path / "agent", tmp_path / "latents.npz"
    run("--root", tmp_path, "--folder", agent)
    assert "drq_bc on a_b mixed: return" in capsys.readouterr().out
    encode.main(["--load_agent", str(agent), "--out", str(latents), "--device", "cpu"])
    real = Transitions.load(latents)
    random_transitions(500).save(tmp_path / "mine.npz")
    with pytest.raises(SystemExit):
        encode.main(["--load_agent", str(agent), "--out", str(tmp_path / "mine.npz")])
    assert len(Transitions.load(tmp_path / "mine.npz")) == 500
    assert real.metadata["pixel_env_id"] == "cartpole-swingup-v0"
    assert TransitionLayout.of(real).row_dim == 2 * 10 + 2 + 2  # --latent_dim 5
    before = checkpoint.load(checkpoint_in(agent))["agent"]["networks"]
    for mix in (0, 0.5):
        tuned = tmp_path / f"tuned-{mix}"
        words = ("--load_agent", agent, "--diffusion.path", latents, "--folder", tuned)
        run(*words, "--mix", mix, "--latents", latents)
        after = checkpoint.load(checkpoint_in(tuned))["agent"]["networks"]
        for name, old in before.items():
            assert torch.equal(old, after[f"encoder.{name}"]) != name.startswith("heads.")
        assert json.loads((tuned / "result.json").read_text())["steps"] == 8


def test_fine_tuning_is_killed_and_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set(tmp_path)
    agent, latents = tmp_path / "agent", tmp_path / "latents.npz"
    run("--root", tmp_path, "--folder", agent)
    encode.main(["--load_agent", str(agent), "--out", str(latents), "--device", "cpu"])
    given = {
        "load_agent": str(agent), "diffusion": DiffusionSource(str(latents)), "device": "cpu",
        "batch_size": 6, "max_timesteps": 8, "checkpoint_every": 2, "eval_freq": 0,
    }  # fmt: skip
    stages.train(PixelConfig(folder=str(tmp_path / "whole"), **given))
    cut = PixelConfig(folder=str(tmp_path / "cut"), resume=True, **given)
    with monkeypatch.context() as patch:
        kill_at(patch, 3, MixedSource)
        with pytest.raises(Killed):
            stages.train(cut)
    result = stages.train(cut)
    assert_same(final(tmp_path / "cut"), final(tmp_path / "whole"))
    assert stages.train(cut) == result


def test_heads_learn_from_latents_of_their_own_encoder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_set(tmp_path)
    one, other, latents = tmp_path / "one", tmp_path / "other", tmp_path / "latents.npz"
    for agent, seed in ((one, 0), (other, 1)):
        run("--root", tmp_path, "--folder", agent, "--seed", seed)
    encode.main(["--load_agent", str(one), "--out", str(latents), "--device", "cpu"])
    for mix in (0, 1):  # in place of synthetic latents, and as the real ones
        words = ("--diffusion.path", latents, "--latents", latents, "--mix", mix)
        with pytest.raises(SystemExit):
            run("--load_agent", other, *words, "--folder", tmp_path / "tuned")
        assert "latents of another encoder" in capsys.readouterr().err
        assert not (tmp_path / "tuned").exists()
        run("--load_agent", one, *words, "--folder", tmp_path / f"tuned-{mix}")
    learnt = Provenance.of(Transitions.load(latents))
    assert learnt.metadata()["encoder"] == Provenance.from_plain(learnt.to_plain()).encoder


def test_fine_tuning_that_resumes_wants_the_agent_that_it_began_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A longer agent has other weights, and another place in the noise's schedule."""
    data_set(tmp_path)
    agent, latents, tuned = tmp_path / "agent", tmp_path / "latents.npz", tmp_path / "tuned"
    run("--root", tmp_path, "--folder", agent)
    encode.main(["--load_agent", str(agent), "--out", str(latents), "--device", "cpu"])
    told = Transitions.load(latents)
    replace(told, metadata={}).save(latents)  # as those of earlier versions: of no encoder
    words = ("--load_agent", agent, "--diffusion.path", latents, "--folder", tuned)
    run(*words)
    (tuned / "result.json").unlink()  # as if it had been cut off
    run("--root", tmp_path, "--folder", agent, "--max_timesteps", 12, "--resume")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(*words, "--resume")
    assert "the data of load_agent have changed" in capsys.readouterr().err


@pytest.mark.slow  # the recipe has the same steps, on samples
def test_heads_learn_from_a_model_on_the_fly(tmp_path: Path) -> None:
    from synther.diffusion import train_diffuser

    data_set(tmp_path)
    agent, latents, diffusion = tmp_path / "agent", tmp_path / "latents.npz", tmp_path / "model"
    run("--root", tmp_path, "--folder", agent)
    encode.main(["--load_agent", str(agent), "--out", str(latents), "--device", "cpu"])
    small = [
        "Trainer.train_num_steps = 4", "Trainer.small_batch_size = 8",
        "ResidualMLPDenoiser.mlp_width = 16", "ResidualMLPDenoiser.num_layers = 1",
        "SimpleDiffusionGenerator.num_sample_steps = 2",
    ]  # fmt: skip
    train_diffuser.main([
        *("--dataset", str(latents), "--results_folder", str(diffusion), "--device", "cpu"),
        *("--gin_params", *small, "--save_num_samples", "50", "--save_file_name", "s.npz"),
    ])  # fmt: skip
    assert (diffusion / "fidelity.json").is_file()
    assert (diffusion / "marginals.png").is_file()
    for path in (diffusion / "s.npz", diffusion / "model-4.pt"):
        on_the_fly = ("--diffusion.path", path, "--diffusion.num_steps", 2)
        run("--load_agent", agent, *on_the_fly, "--folder", tmp_path / path.suffix[1:])
        assert (tmp_path / path.suffix[1:] / "result.json").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--resume"], 1, "--resume needs --folder"),
        (["--root", "nowhere"], 1, "v-d4rl"),
        (["--batch_size", "many"], 2, "--batch_size: expected a whole number, got 'many'"),
        (["--batch_size", "0"], 2, "batch_size is 0"),
        (["--algo", "sac"], 2, "'sac' is not one of drq_bc, bc"),
        (["--config", "none.yaml"], 2, "none.yaml: no such file"),
        (["--load_agent", "nowhere"], 1, "nowhere"),
        (["--recipe"], 1, "--recipe needs --folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        drq_bc.main(words)
    error = capsys.readouterr().err
    assert left.value.code == code
    assert message in error
    assert error.count("\n") == 1


def test_an_agent_with_settings_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    data_set(tmp_path)
    stages.train(config(root=str(tmp_path), folder=str(tmp_path / "run"), max_timesteps=2))
    file = checkpoint_in(tmp_path / "run")
    state = checkpoint.load(file)
    state["config"]["colour"] = "red"
    checkpoint.save(file, state)
    with pytest.raises(CheckpointError, match=rf"{file.name}: not an agent .*colour: no such key"):
        stages.load_agent(str(file))


def test_latents_of_another_agent_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_set(tmp_path)
    run("--root", tmp_path, "--folder", tmp_path / "agent")
    ones = np.ones((5, 3), np.float32)
    Transitions(ones, ones, ones[:, 0], ones, 0 * ones[:, 0]).save(tmp_path / "other.npz")
    with pytest.raises(SystemExit):
        run("--load_agent", tmp_path / "agent", "--diffusion.path", tmp_path / "other.npz")
    assert "3 observation and 3 action columns" in capsys.readouterr().err

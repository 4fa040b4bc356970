"""The training loop: resume bit for bit, files, results, and errors."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
import torch
import yaml

from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared import result as results
from synther.corl.shared import runner
from synther.corl.shared.command import command
from synther.corl.shared.config import DiffusionConfig
from synther.corl.shared.normalizers import RewardNormalizer
from synther.corl.shared.runner import run
from synther.envs import Evaluator, normalized_score
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning.learner import Agent
from synther.runs.folder import RunFolderError
from synther.runs.loggers import read_metrics
from synther.runs.settings import ConfigError
from synther.transitions import TransitionError, TransitionLayout, Transitions
from tests.corl.helpers import ALGORITHMS, write_dataset, write_model
from tests.devices import DEVICE
from tests.environments import registered
from tests.events import assert_shows

COMMAND = [sys.executable, "synther/corl/algorithms/td3_bc.py"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., TD3BCConfig]:
    """Configurations of small runs on a data set of their own."""
    write_dataset(tmp_path / "data.npz")

    def configuration(algorithm: str = "td3_bc", **changes: Any) -> Any:
        config_class, _, small = ALGORITHMS[algorithm]
        settings = {
            "env": str(tmp_path / "data.npz"), "max_timesteps": 12, "eval_freq": 5, "log_every": 4,
            "n_episodes": 1, "batch_size": 8, "checkpoints_path": str(tmp_path / "runs"),
            "device": str(DEVICE), "name": "small",
        }  # fmt: skip
        return config_class(**(settings | small | changes))

    return configuration


class Interrupted(Exception):
    pass


def interrupt_at(monkeypatch: pytest.MonkeyPatch, build: type[Agent], step: int) -> None:
    """Let the update of that step fail, as if the process had been killed there."""
    variant = build.variant

    def failing(self: Agent, number: int) -> Any:
        if number == step:
            raise Interrupted
        return variant(self, number)

    monkeypatch.setattr(build, "variant", failing)


def final_state(folder: Path) -> dict[str, Any]:
    path = checkpoint.latest(folder, "checkpoint")
    assert path is not None
    state = checkpoint.load(path)
    del state["seconds"], state["config"]
    return state


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one.cpu().equal(other.cpu()) if isinstance(one, torch.Tensor) else one == other


def curve(folder: Path) -> list[dict[str, Any]]:
    left_out = ("time", "updates_per_second", "generation_share")
    records = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k not in left_out} for record in records]


def whole_and_cut(
    make: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    killed_at: int,
    **options: Any,
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Results and folders of a run of two seeds, and of the same that is killed at a step and
    resumed."""
    build = ALGORITHMS[algorithm][1]
    options["num_seeds"] = 2
    whole = run(make(algorithm, **options, name="whole"), build)
    with monkeypatch.context() as patched:
        interrupt_at(patched, build, killed_at)
        with pytest.raises(Interrupted):
            run(make(algorithm, **options, name="cut"), build)
    resumed = make(algorithm, **options, name="cut", resume=True)
    runs = Path(resumed.checkpoints_path)
    folders = [runs / f"{name}-data-s0to1" for name in ("whole", "cut")]
    return [whole, run(resumed, build)], folders


@pytest.mark.parametrize(
    ("algorithm", "keys", "source", "killed_at"),
    [
        *(("td3_bc", {}, source, step) for source in ("data", "fly", "kept") for step in (3, 9)),
        ("iql", {}, "fly", 9),
        ("iql", {"iql_deterministic": True}, "data", 9),
        ("edac", {"precision": "bf16"}, "fly", 9),
        ("cql", {"bc_steps": 7, "cql_lagrange": True, "target_update_period": 3}, "fly", 9),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    algorithm: str,
    keys: dict[str, Any],
    source: str,
    killed_at: int,
    make: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Across an evaluation and a checkpoint at step 5 and, on the fly, new rows at step 7."""
    diffusion = DiffusionConfig()
    if source != "data":
        model = write_model(tmp_path / "model.pt", TransitionLayout(3, 1))
        limit = 40 if source == "kept" else None
        diffusion = DiffusionConfig(str(model), 2, limit, batch_parallelism=3)
    (whole, cut), folders = whole_and_cut(
        make, monkeypatch, algorithm, killed_at, diffusion=diffusion, **keys
    )
    assert same(*map(final_state, folders))
    assert curve(folders[0]) == curve(folders[1])
    logged = read_metrics(folders[0] / "metrics.jsonl")
    rates = [record for record in logged if "updates_per_second" in record]
    assert all(("generation_share" in record) == (source == "fly") for record in rates)
    for key in ("last_return", "best_return", "mean", "standard_error", "steps"):
        assert whole[key] == cut[key]
    assert len(list((tmp_path / "runs").iterdir())) == 2  # it went on in its own folder


def test_evaluation_in_workers_changes_nothing_but_where_it_runs(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two seeds, a run that is cut off while an evaluation may be under way, and a user's
    algorithm whose class no other process can import."""

    class OfAScript(TD3BC):
        def act(self, states: torch.Tensor) -> torch.Tensor:
            return super().act(states) / 2

    options = {"num_seeds": 2, "n_episodes": 3}
    whole = run(make(name="whole", eval_workers=0, **options), OfAScript)
    beside = run(make(name="beside", eval_workers=2, **options), OfAScript)
    with monkeypatch.context() as patched:
        interrupt_at(patched, TD3BC, 7)
        with pytest.raises(Interrupted):
            run(make(name="cut", eval_workers=1, **options), OfAScript)
    stored = checkpoint.load(tmp_path / "runs" / "cut-data-s0to1" / "checkpoint-5.pt")
    assert (stored["evaluations"] == []) == ("unsettled" in stored)
    cut = run(make(name="cut", resume=True, eval_workers=0, **options), OfAScript)
    folders = [tmp_path / "runs" / f"{name}-data-s0to1" for name in ("whole", "beside", "cut")]
    for folder, result in zip(folders[1:], (beside, cut), strict=True):
        assert same(final_state(folders[0]), final_state(folder))
        assert curve(folders[0]) == curve(folder)
        assert whole["last_return"] == result["last_return"]


def test_workers_that_were_not_asked_for_are_done_without_where_they_fail(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(make(eval_workers=0), TD3BC)
    monkeypatch.setattr("synther.envs.evaluation_pool._PROGRAM", "synther.envs.no_such_program")
    with pytest.raises(ChildProcessError, match=r"exit code 1; .*no_such_program"):
        run(make(eval_workers=1), TD3BC)
    monkeypatch.setenv("SYNTHER_EVAL_WORKERS", "1")
    with pytest.warns(UserWarning, match="no_such_program; evaluations go on in the training proc"):
        result = run(make(), TD3BC)
    assert result["last_return"] == plain["last_return"]
    monkeypatch.setenv("SYNTHER_EVAL_WORKERS", "many")
    with pytest.raises(ValueError, match="SYNTHER_EVAL_WORKERS=many: expected a whole number"):
        run(make(), TD3BC)


def test_tensorboard_shows_what_metrics_jsonl_has(make: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(make(tensorboard=True), TD3BC)
    folder = tmp_path / "runs" / "small-data-s0"
    assert_shows(folder, read_metrics(folder / "metrics.jsonl"))


@pytest.mark.slow
def test_a_killed_process_can_be_resumed(make: Callable[..., Any], tmp_path: Path) -> None:
    words = ["--env", str(tmp_path / "data.npz"), "--checkpoints_path", str(tmp_path / "runs")]
    words += ["--eval_freq", "20", "--n_episodes", "1", "--network_width", "16", "--device", "cpu"]
    words += ["--max_timesteps", "400", "--batch_size", "16"]
    folder = tmp_path / "runs" / "TD3_BC-data-s0"
    process = subprocess.Popen([*COMMAND, *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    while checkpoint.latest(folder, "checkpoint") is None:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "result.json").exists()
    subprocess.run([*COMMAND, *words, "--resume"], cwd=ROOT, check=True, capture_output=True)
    words[3] = str(tmp_path / "whole")
    subprocess.run([*COMMAND, *words], cwd=ROOT, check=True, capture_output=True)
    assert same(final_state(folder), final_state(tmp_path / "whole" / "TD3_BC-data-s0"))


def test_resume_finds_the_runs_of_its_own_algorithm(
    make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two algorithms with one --name; the keys of one are unknown to the other."""
    short = {"name": "both", "max_timesteps": 2, "eval_freq": 2}
    iql = run(make("iql", **short), ALGORITHMS["iql"][1])
    with monkeypatch.context() as patched:
        interrupt_at(patched, TD3BC, 1)
        with pytest.raises(Interrupted):
            run(make("td3_bc", **short), TD3BC)
    found = run(make("td3_bc", **short, resume=True), TD3BC)
    assert found["config"]["algorithm"] == "TD3+BC"
    assert (tmp_path / "runs/both-data-s0-2/result.json").is_file()
    assert run(make("iql", **short, resume=True), ALGORITHMS["iql"][1]) == iql


def test_the_same_command_again_gets_a_folder_of_its_own(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    for _ in range(3):
        run(make(), TD3BC)
    names = ["small-data-s0", "small-data-s0-2", "small-data-s0-3"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == names
    for name in names:
        assert (tmp_path / "runs" / name / "result.json").is_file()
    before = final_state(tmp_path / "runs" / names[2])
    assert run(make(resume=True), TD3BC)["steps"] == 12  # all finished: nothing is trained again
    assert same(before, final_state(tmp_path / "runs" / names[2]))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == names


def test_resuming_with_another_configuration_names_the_keys(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(patched, TD3BC, 7)
        with pytest.raises(Interrupted):
            run(make(), TD3BC)
    message = r"small-data-s0: --resume needs the settings(.|\n)*  alpha: then 2\.5, now 1\.0"
    with pytest.raises(RunFolderError, match=message) as refused:
        run(make(max_timesteps=20, alpha=1.0, resume=True), TD3BC)
    assert "\n  max_timesteps: then 12, now 20" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 3  # nothing else differs
    assert run(make(threads=2, resume=True), TD3BC)["steps"] == 12  # says how, not what


def test_results_hold_last_and_best_of_every_seed(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Scripted:
        """Returns rise and then fall; seed k's are k more."""

        observation_dim, action_dim = 3, 1
        played = iter([10.0, 30.0, 20.0])

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def play(self, policy: Any, seeds: list[int]) -> tuple[np.ndarray, np.ndarray]:
            assert policy(np.zeros((2, 4, 3), np.float32)).shape == (2, 4, 1)
            middle = next(self.played)
            returns = np.array([[middle - 1 + seed, middle + 1 + seed] for seed in seeds])
            return returns, np.ones_like(returns, int)

        def close(self) -> None: ...

    monkeypatch.setattr(runner, "Evaluator", Scripted)
    result = run(make(num_seeds=2, seed=4, eval_env="Hopper-v2", eval_workers=0), TD3BC)
    assert result["seeds"] == [4, 5]
    assert result["last_return"] == [24.0, 25.0]
    assert result["best_return"] == [34.0, 35.0]
    scores = normalized_score("Hopper-v2", [24.0, 25.0])
    np.testing.assert_allclose(result["last_score"], scores)
    np.testing.assert_allclose(result["best_score"], normalized_score("Hopper-v2", [34.0, 35.0]))
    assert result["mean"] == pytest.approx(scores.mean())
    error = np.std(scores, ddof=1) / np.sqrt(2)
    assert result["standard_error"] == pytest.approx(error)
    folder = tmp_path / "runs" / "small-data-s4to5"
    assert json.loads((folder / "result.json").read_text()) == result
    records = read_metrics(folder / "metrics.jsonl")
    assert [record["eval_return/s5"] for record in records if "eval_return/s5" in record] == [
        15.0,
        35.0,
        25.0,
    ]
    logged = [record for record in records if "critic_loss/s4" in record]
    assert [record["step"] for record in logged] == [4, 8, 12]
    assert all(record["updates_per_second"] > 0 for record in logged)


def test_an_environment_without_reference_scores_gives_returns(make: Callable[..., Any]) -> None:
    result = run(make(), TD3BC)
    assert result["last_score"] is None
    assert result["best_score"] is None
    assert result["mean"] == result["last_return"][0]
    assert result["standard_error"] is None


def test_checkpoints_are_few_unless_all_are_asked_for(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    run(make(name="few", save_checkpoints=False), TD3BC)
    run(make(name="all"), TD3BC)
    few = checkpoint.steps(tmp_path / "runs" / "few-data-s0", "checkpoint")
    every = checkpoint.steps(tmp_path / "runs" / "all-data-s0", "checkpoint")
    assert list(few) == [12]
    assert list(every) == [5, 10, 12]


def test_without_a_folder_nothing_is_written(
    make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert run(make(checkpoints_path=None), TD3BC)["steps"] == 12
    assert list(empty.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "empty"]
    with pytest.raises(ConfigError, match="--resume needs --checkpoints_path"):
        run(make(checkpoints_path=None, resume=True), TD3BC)


def test_training_starts_from_the_weights_of_another_run(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    run(make(name="first"), TD3BC)
    folder = tmp_path / "runs" / "first-data-s0"
    stored = final_state(folder)["agent"]["networks"]
    for path in (folder, folder / "checkpoint-12.pt"):
        config = make(name="second", load_model=str(path))
        agent = runner.prepare(config, TD3BC, None).training.agent
        assert same(dict(agent.state_dict()), stored)
        assert agent.optimizers()["actor_optimizer"].state == {}  # weights alone
    with pytest.raises(CheckpointError, match=r"checkpoint-12\.pt: its networks do not fit"):
        run(make(name="second", load_model=str(folder), network_width=16), TD3BC)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        run(make(name="second", load_model=str(tmp_path / "nothing.pt")), TD3BC)
    assert len(list((tmp_path / "runs").iterdir())) == 1  # a run that could not start left nothing


def test_the_configuration_beside_the_run_starts_it_again(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    run(make(alpha=1.5), TD3BC)
    stored = yaml.safe_load((tmp_path / "runs" / "small-data-s0" / "config.yaml").read_text())
    assert stored["alpha"] == 1.5
    command(TD3BCConfig, TD3BC, ["--config", str(tmp_path / "runs/small-data-s0/config.yaml")])
    folders = [tmp_path / "runs" / name for name in ("small-data-s0", "small-data-s0-2")]
    assert same(*map(final_state, folders))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"eval_env": "MountainCarContinuous-v0"}, ConfigError, "2 observation and 1 action"),
        ({"buffer_size": 299}, ConfigError, "300 rows, buffer_size is 299; raise it"),
        ({"device": "gpu"}, ConfigError, "device 'gpu'"),
        ({"compile": "cudagraph", "device": "cpu"}, ConfigError, "needs a CUDA device"),
        ({"compile": "max", "device": "cpu"}, ConfigError, "needs a CUDA device, this is cpu"),
    ],
)
def test_a_run_that_cannot_start_says_why_and_leaves_no_folder(
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    make: Callable[..., Any],
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        run(make(**changes), TD3BC)
    assert not list((tmp_path / "runs").glob("*"))


def test_a_data_set_that_does_not_say_its_environment(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    nameless = write_dataset(tmp_path / "nameless.npz", env_id=None)
    with pytest.raises(ConfigError, match="name one with --eval_env"):
        run(make(env=str(nameless)), TD3BC)
    assert run(make(env=str(nameless), eval_env="Pendulum-v1"), TD3BC)["steps"] == 12


def test_generated_rows_that_are_not_finite_are_an_error_of_one_line(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    path = write_model(tmp_path / "model.pt", TransitionLayout(3, 1))
    payload = checkpoint.load(path)
    payload["ema"]["ema_model.net.residual_mlp.final_linear.bias"].fill_(float("nan"))
    checkpoint.save(path, payload)
    with pytest.raises(TransitionError, match=r"model\.pt: .* not finite"):
        run(make(diffusion=DiffusionConfig(str(path), num_steps=2)), TD3BC)


def test_the_command_prints_one_line_at_the_end_and_one_at_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = str(write_dataset(tmp_path / "data.npz"))
    words = ["--env", env, "--max_timesteps", "2", "--n_episodes", "1", "--device", str(DEVICE)]
    command(TD3BCConfig, TD3BC, [*words, "--checkpoints-path", "none"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.startswith("TD3_BC on Pendulum-v1, trained on the data set")
    assert out.endswith("; nothing is written without --checkpoints_path\n")
    assert not (tmp_path / "corl_logs").exists()
    command(TD3BCConfig, TD3BC, words)
    assert capsys.readouterr().out.endswith("; corl_logs/TD3_BC-data-s0\n")
    assert (tmp_path / "corl_logs/TD3_BC-data-s0/result.json").is_file()
    with pytest.raises(SystemExit) as stop:
        command(TD3BCConfig, TD3BC, [*words, "--alhpa", "1"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: --alhpa: no such key; did you mean --alpha?\n"
    command(TD3BCConfig, TD3BC, ["--help"])
    assert "--alpha X" in capsys.readouterr().out


def test_importing_the_algorithms_pulls_in_no_simulator_and_no_other_room() -> None:
    """Fault 10 of the 2023 release."""
    modules = ", ".join(f"synther.corl.algorithms.{name}" for name in ALGORITHMS)
    code = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    unwanted = {
        "gymnasium", "mujoco", "dm_control", "shimmy", "wandb", "gin", "accelerate",
        "synther.online", "synther.diffusion.elucidated_diffusion",
        "synther.diffusion.generation.generator",
    }  # fmt: skip
    assert unwanted.isdisjoint(loaded)
    assert "torch" in loaded


class Endless(gymnasium.Env):  # type: ignore[type-arg]
    """Of the widths of the tests' data; a reward of 1 for ever."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(3, np.float32), 1.0, False, False, {}


@pytest.mark.parametrize("limit", [None, 7])
def test_an_environment_without_a_time_limit_is_evaluated_all_the_same(
    make: Callable[..., TD3BCConfig], limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(eval_env="Endless-v0", max_episode_steps=limit, max_timesteps=1, eval_freq=1)
    told = contextlib.nullcontext() if limit else pytest.warns(UserWarning, match="no time limit")
    with registered(Endless), told:
        result = run(config, TD3BC)
    assert result["last_return"] == [limit or 1000]


def test_the_time_limit_cuts_a_file_that_has_no_time_outs(
    make: Callable[..., TD3BCConfig], tmp_path: Path
) -> None:
    path = tmp_path / "data.hdf5"
    rows = Transitions.load(tmp_path / "data.npz")
    with h5py.File(path, "w") as file:
        for name in ("observations", "actions", "rewards", "terminals"):
            file[name] = getattr(rows, name)
    config = {"env": str(path), "eval_env": "Pendulum-v1", "max_timesteps": 1, "eval_freq": 1}
    with pytest.raises(TransitionError, match="max_episode_steps=N"):
        run(make(**config), TD3BC)
    assert run(make(**config, max_episode_steps=10), TD3BC)["steps"] == 1


def test_data_of_a_changed_environment_are_evaluated_in_it(
    make: Callable[..., TD3BCConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = tmp_path / "data.npz", []
    rows = Transitions.load(path)
    described = {**rows.metadata, "env_kwargs": {"g": 2.5}}
    Transitions.from_arrays(rows.arrays(), metadata=described).save(path)

    def evaluator(*given: Any, **named: Any) -> Any:
        opened.append(named.get("g"))
        return Evaluator(*given, **named)

    monkeypatch.setattr(runner, "Evaluator", evaluator)
    short = {"max_timesteps": 1, "eval_freq": 1}
    run(make(**short), TD3BC)
    run(make(**short, env_kwargs='{"g": 3.5}'), TD3BC)
    run(make(**short, eval_env="Pendulum-v1"), TD3BC)
    assert opened == [2.5, 3.5, None]


def test_reference_scores_are_not_those_of_a_changed_environment(
    make: Callable[..., TD3BCConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "reference_scores", lambda env_id: (-1000.0, 0.0))
    monkeypatch.setattr(results, "normalized_score", lambda env_id, returns: returns)
    short = {"max_timesteps": 1, "eval_freq": 1}
    assert run(make(**short), TD3BC)["last_score"] is not None
    assert run(make(**short, env_kwargs='{"g": 3.5}'), TD3BC)["last_score"] is None
    assert run(make(**short, max_episode_steps=20), TD3BC)["last_score"] is None
    assert run(make(**short, max_episode_steps=200), TD3BC)["last_score"] is not None  # its own


def test_the_time_limit_has_a_key_of_its_own(make: Callable[..., TD3BCConfig]) -> None:
    with pytest.raises(ConfigError, match=r"env_kwargs: max_episode_steps is a key of its own"):
        make(env_kwargs='{"max_episode_steps": 10}')


def test_the_time_limit_of_an_evaluation_is_not_that_of_the_data(
    make: Callable[..., TD3BCConfig], tmp_path: Path
) -> None:
    """The data's episodes of 40 steps are within Pendulum's own limit, 200, whatever is played."""
    rows = Transitions.load(tmp_path / "data.npz")
    ends = np.arange(1, len(rows) + 1) % 40 == 0
    following = np.roll(rows.observations, -1, axis=0)
    following[ends] += 1
    changed = {**rows.arrays(), "next_observations": following, "terminals": 0 * rows.terminals}
    path = tmp_path / "cut.npz"
    Transitions.from_arrays(changed, metadata={"env_id": "Pendulum-v1"}).save(path)
    config = {"env": str(path), "max_timesteps": 1, "eval_freq": 1, "normalize_reward": True}
    whole = run(make(**config), TD3BC)
    assert run(make(**config, max_episode_steps=20), TD3BC)["steps"] == whole["steps"] == 1


def test_rewards_are_normalised_by_the_environment_of_the_data(
    make: Callable[..., TD3BCConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of antmaze lose 1, whichever environment evaluates."""
    asked = []

    def of(dataset: Transitions, env: str, limit: int | None = None) -> RewardNormalizer:
        asked.append((env, limit))
        return RewardNormalizer(1.0, 1.0)

    monkeypatch.setattr(RewardNormalizer, "of", of)
    path = tmp_path / "data.npz"
    rows = Transitions.load(path)
    Transitions.from_arrays(rows.arrays(), metadata={"env_id": "antmaze-mine-v0"}).save(path)
    config = {"eval_env": "Pendulum-v1", "max_timesteps": 1, "eval_freq": 1}
    run(make(**config, normalize_reward=True), TD3BC)
    assert asked == [("antmaze-mine-v0", None)]


def test_actions_in_the_environments_units_score_as_those_in_unit_ones(
    make: Callable[..., TD3BCConfig], tmp_path: Path
) -> None:
    """Pendulum-v1 takes -2 to 2. Twice a float32 is exact, so that the runs agree bit for bit."""
    data = Transitions.load(tmp_path / "data.npz")
    env = {"env_id": "Pendulum-v1"}
    replace(data, metadata={**env, "action_low": -1, "action_high": 1}).save(tmp_path / "unit.npz")
    replace(data, actions=2 * data.actions, metadata=env).save(tmp_path / "own.npz")
    found = {
        name: run(make(env=str(tmp_path / name), **more), TD3BC)["last_return"]
        for name, more in {
            "unit.npz": {},
            "own.npz": {},
            "data.npz": {"action_high": 1.0, "action_low": -1.0},
        }.items()
    }
    assert found["own.npz"] == found["unit.npz"] == found["data.npz"]
    silent = run(make(env=str(tmp_path / "own.npz"), action_low=-4.0, action_high=4.0), TD3BC)
    assert silent["last_return"] != found["own.npz"]


def test_an_agents_own_unit_makes_no_difference_to_the_environment(
    make: Callable[..., TD3BCConfig], tmp_path: Path
) -> None:
    """An actor that does all it can, does it whatever max_action calls that."""
    seen = []

    class Pushing(TD3BC):
        def act(self, states: torch.Tensor) -> torch.Tensor:
            return 0 * super().act(states) + self.config.max_action

    for bound in (1.0, 4.0):
        config = make(env=str(tmp_path / "data.npz"), max_action=bound, max_timesteps=2)
        seen.append(run(config, Pushing)["last_return"])
    assert seen[0] == seen[1]


def test_data_that_are_refused_leave_no_folder_and_take_none_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.npz").write_text("no data")
    Path("mine").mkdir()
    for folder in ("zz", "new/deep/zz", "mine", "mine/new"):
        with pytest.raises(SystemExit) as end:
            command(TD3BCConfig, TD3BC, ["--dataset", "bad.npz", "--checkpoints_path", folder])
        assert end.value.code == 1
        assert "bad.npz: not a readable .npz" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.npz", "mine"]

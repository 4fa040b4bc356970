"""An environment of the user's own module, and arguments of environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from synther.action_bounds import DiscreteActionsError
from synther.corl.algorithms.td3_bc import TD3BCConfig
from synther.envs import Evaluator, UnknownEnvironmentError, make_env
from synther.envs.simulators import EnvironmentArgumentError
from synther.online import online_exp
from synther.runs.settings import ConfigError, keywords
from tests.environments import registered

MODULE = """
import gymnasium
gymnasium.register(
    "ownspace/Mine-v0",
    entry_point="gymnasium.envs.classic_control:PendulumEnv",
    max_episode_steps=7,
)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "synther_test_package.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "synther_test_package:ownspace/Mine-v0"


def test_a_module_before_the_colon_is_imported(own: str) -> None:
    assert make_env(own).spec.max_episode_steps == 7  # type: ignore[union-attr]
    with Evaluator(own, 2) as evaluator:
        assert (evaluator.observation_dim, evaluator.max_episode_steps) == (3, 7)


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownEnvironmentError, match="module 'no_such_one' cannot be imported"):
        make_env("no_such_one:ns/Env-v0")


def test_an_id_that_the_module_does_not_register(own: str) -> None:
    with pytest.raises(UnknownEnvironmentError, match="no environment 'synther_test_package:Else"):
        make_env("synther_test_package:Else-v0")


@pytest.mark.parametrize("name", ["Pendulum-v1", "Hopper-v2"])
def test_an_argument_that_it_does_not_take_is_named(name: str) -> None:
    with pytest.raises(EnvironmentArgumentError, match=f"{name}: does not take gravty=1.6"):
        make_env(name, gravty=1.6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Pendulum-v1", {"g": "a"}),  # shows in a step
        ("Hopper-v4", {"reset_noise_scale": "x"}),  # at the start of an episode
        ("Hopper-v4", {"frame_skip": 3}),  # while it is made
        ("Pendulum-v1", {"render_mode": 7}),
        ("cheetah-run-v0", {"task_kwargs": 3}),
    ],
)
def test_a_value_that_it_does_not_take_is_named(name: str, arguments: dict[str, Any]) -> None:
    pytest.importorskip("mujoco")
    ((key, value),) = arguments.items()
    with pytest.raises(EnvironmentArgumentError, match=f"{name}: does not take {key}={value!r} "):
        make_env(name, **arguments)


def test_arguments_are_given() -> None:
    assert make_env("Pendulum-v1", g=1.5).unwrapped.g == 1.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{g: 1}", "not JSON"), ("[1]", "expected an object"), ("3", "expected an object")],
)
def test_what_is_no_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"env_kwargs: {message}"):
        keywords(text, "env_kwargs")
    with pytest.raises(ConfigError, match=f"env_kwargs: {message}"):
        TD3BCConfig(env_kwargs=text)


def test_an_online_run_learns_there(own: str, tmp_path: Path) -> None:
    words = ["--env", own, "--debug", "--gin_config_files", "config/online/sac_small.gin"]
    small = ["--gin_params", "redq_sac.epochs=1", "redq_sac.start_steps=50"]
    folder = tmp_path / "runs"
    online_exp.main([*words, *small, "--env_kwargs", '{"g": 1.5}', "--results_folder", str(folder)])
    (run,) = folder.rglob("run.json")
    assert "'g': 1.5" in run.read_text()
    assert ":" not in str(run.relative_to(folder))


def test_an_online_run_refuses_what_the_environment_does_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--debug", "--gin_config_files", "config/online/sac_small.gin"]
    with pytest.raises(SystemExit):
        online_exp.main([
            "--env", "Pendulum-v1", *words, "--env_kwargs", '{"gravty": 1}',
            "--results_folder", str(tmp_path),
        ])  # fmt: skip
    assert "Pendulum-v1: does not take gravty=1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [{"render_mode": "rgb_array"}, {"sutton_barto_reward": True}])
def test_an_argument_is_not_blamed_for_what_is_the_environments(arguments: dict[str, Any]) -> None:
    with pytest.raises(DiscreteActionsError, match="CartPole-v1 has the action space"):
        make_env("CartPole-v1", **arguments)


class NeedsPort(gymnasium.Env):  # type: ignore[type-arg]
    """Holds what one environment at a time can hold."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    held = False

    def __init__(self, port: int = 0) -> None:
        if NeedsPort.held:
            raise OSError("Address already in use")
        NeedsPort.held = True

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def close(self) -> None:
        NeedsPort.held = False


def test_one_environment_at_a_time_is_open() -> None:
    with registered(NeedsPort, max_episode_steps=5) as (name,):
        env = make_env(name, port=1)
        assert NeedsPort.held
        env.close()

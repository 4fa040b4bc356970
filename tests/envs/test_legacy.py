"""The original packages behind the same doors; against ours, step by step, where they are there."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from synther.corl.algorithms.td3_bc import TD3BCConfig
from synther.corl.shared.parsing import parse
from synther.datasets import load_dataset
from synther.diffusion import evaluate_samples, train_diffuser
from synther.envs import MissingSimulatorError, UnknownEnvironmentError, legacy, make_env
from synther.envs.snapshots import Snapshots
from synther.installed import install_hint
from synther.online import online_exp
from synther.runs.settings import ConfigError

# It remembers whether gym was there when it was first imported; here that is before gym is hidden.
pytest.importorskip("shimmy.openai_gym_compatibility")

D4RL_FILES = Path(__file__).parents[1] / "golden" / "d4rl"
STEPS = 300
NAMES = [
    "HalfCheetah-v2",
    "Hopper-v2",
    "Walker2d-v2",
    "Ant-v2",
    "Humanoid-v2",
    "maze2d-umaze-v1",
    "maze2d-umaze-dense-v1",
    "maze2d-medium-v1",
    "maze2d-medium-dense-v1",
    "maze2d-large-v1",
    "maze2d-large-dense-v1",
    "antmaze-umaze-v2",
    "antmaze-medium-play-v2",
    "antmaze-large-play-v2",
]


@pytest.fixture
def gym_backend(monkeypatch):
    """The gym backend, or a skip that says what is missing."""
    monkeypatch.setenv(legacy.VARIABLE, "gym")
    try:
        legacy.make_legacy("HalfCheetah-v2").close()
    except MissingSimulatorError as error:
        pytest.skip(str(error))


def both(name, monkeypatch):
    theirs = make_env(name)
    monkeypatch.setenv(legacy.VARIABLE, "gymnasium")
    return theirs, make_env(name)


def put_same_state(theirs, ours):
    """Ours into the state that theirs is in, and both without a trace of the step before: positions
    of bodies, which Ant's and Humanoid's rewards compare, are a substep old after a step."""
    there = theirs.unwrapped.gym_env.unwrapped
    there = getattr(there, "_wrapped_env", there)
    positions, velocities = there.sim.data.qpos.copy(), there.sim.data.qvel.copy()
    there.set_state(positions, velocities)
    ours.unwrapped.set_state(positions, velocities)


def test_the_default_backend_is_gymnasium(monkeypatch):
    monkeypatch.delenv(legacy.VARIABLE, raising=False)
    assert legacy.backend() == "gymnasium"
    monkeypatch.setenv(legacy.VARIABLE, "gym")
    assert legacy.backend() == "gym"


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setenv(legacy.VARIABLE, "gymm")
    with pytest.raises(ValueError, match="SYNTHER_BACKEND=gymm: expected one of gymnasium, gym"):
        make_env("Hopper-v2")
    with pytest.raises(ValueError, match="SYNTHER_BACKEND=mujoco-py"):
        legacy.use_backend("mujoco-py")


def test_choosing_nothing_changes_nothing(monkeypatch):
    monkeypatch.setenv(legacy.VARIABLE, "gym")
    legacy.use_backend(None)
    assert legacy.backend() == "gym"
    legacy.use_backend("gymnasium")
    assert legacy.backend() == "gymnasium"


def test_without_the_packages_the_error_names_the_extra(monkeypatch):
    monkeypatch.setenv(legacy.VARIABLE, "gym")
    monkeypatch.setitem(sys.modules, "gym", None)
    hint = re.escape(install_hint("legacy"))
    with pytest.raises(MissingSimulatorError, match=hint + ".*docs/legacy.md"):
        make_env("Hopper-v2")
    with pytest.raises(MissingSimulatorError, match=hint):
        load_dataset("hopper-random-v2")


def test_control_suite_and_shipped_data_need_no_old_package(monkeypatch):
    monkeypatch.setenv(legacy.VARIABLE, "gym")
    monkeypatch.setitem(sys.modules, "gym", None)
    make_env("cheetah-run-v0").close()
    assert len(load_dataset("hopper-demo-v0")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_both_backends_step_alike(name, gym_backend, monkeypatch):
    theirs, ours = both(name, monkeypatch)
    assert theirs.observation_space.shape == ours.observation_space.shape
    assert theirs.action_space == ours.action_space
    assert theirs.spec.max_episode_steps == ours.spec.max_episode_steps
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, *ours.action_space.shape))
    theirs.reset(seed=0)
    ours.reset(seed=0)
    if hasattr(ours.unwrapped, "set_target"):
        there = theirs.unwrapped.gym_env.unwrapped
        goal = there._target if hasattr(there, "_target") else there._goal
        ours.unwrapped.set_target(np.array(goal))
    ended = 0
    for action in actions.astype(np.float32):
        put_same_state(theirs, ours)
        theirs_said, ours_said = theirs.step(action), ours.step(action)
        rtol, atol = (1e-4, 1e-4) if name == "Humanoid-v2" else (1e-5, 1e-6)  # the solvers differ
        np.testing.assert_allclose(ours_said[0], theirs_said[0], rtol=rtol, atol=atol)
        assert ours_said[1] == pytest.approx(theirs_said[1], abs=1e-6)
        assert ours_said[2] == theirs_said[2]
        if theirs_said[2]:
            ended += 1
            theirs.reset()
            ours.reset()
    if name in ("Hopper-v2", "Walker2d-v2"):
        assert ended > 0


@pytest.mark.slow
def test_the_time_limit_is_a_truncation(gym_backend):
    env = make_env("HalfCheetah-v2", max_episode_steps=5)
    assert env.spec.max_episode_steps == 5
    env.reset(seed=0)
    ends = [env.step(np.zeros(6, np.float32))[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


@pytest.mark.slow
def test_a_seed_repeats_and_an_unknown_name_is_an_error(gym_backend):
    env = make_env("Hopper-v2")
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    assert Snapshots(env).take() is None  # its episode starts anew on a resume
    with pytest.raises(UnknownEnvironmentError, match="Hoper-v2"):
        make_env("Hoper-v2")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hopper-random-v2", "halfcheetah-random-v2"])
def test_d4rl_itself_makes_the_same_transitions(name, gym_backend, monkeypatch, tmp_path):
    import d4rl
    import gym

    file_name = d4rl.infos.DATASET_URLS[name].rsplit("/", 1)[1]
    shutil.copy(D4RL_FILES / f"{name}.sample.hdf5", tmp_path / file_name)
    d4rl.offline_env.set_dataset_path(str(tmp_path))
    exact = load_dataset(name, d4rl_exact=True)
    theirs = d4rl.qlearning_dataset(gym.make(name))
    for key, values in exact.arrays().items():
        np.testing.assert_array_equal(values, theirs[key], err_msg=key)


def test_offline_commands_take_the_backend():
    config = parse(TD3BCConfig, ["--backend", "gym"])
    assert config.backend == "gym"
    with pytest.raises(ConfigError, match="backend"):
        parse(TD3BCConfig, ["--backend", "mujoco"])


@pytest.mark.parametrize("command", [train_diffuser.main, evaluate_samples.main, online_exp.main])
def test_commands_take_the_backend(command, capsys):
    with pytest.raises(SystemExit) as end:
        command(["--backend", "mujoco", "--dataset", "x"])
    assert end.value.code == 2
    assert "choose from" in capsys.readouterr().err

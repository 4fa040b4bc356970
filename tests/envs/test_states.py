from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.envs import make_env, set_state_from_observation
from synther.envs.dmc import env_ids
from synther.envs.dmc_states import determines_state
from synther.envs.states import shows_goal, shows_state

pytestmark = pytest.mark.arithmetic

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mujoco210_dev.npz")


@pytest.mark.parametrize("task", ["HalfCheetah", "Hopper", "Walker2d"])
def test_a_recorded_observation_steps_to_the_recorded_next_one(task: str) -> None:
    """To float32's seven digits, which is what the environment's observations have."""
    env = make_env(f"{task}-v2")
    env.reset(seed=0)
    observations = GOLDEN[f"{task}/observation"]
    velocities = GOLDEN[f"{task}/qvel"]
    visible = (np.abs(velocities) < 10).all(axis=1) | (task == "HalfCheetah")
    rows = np.flatnonzero(visible)[:100]
    assert len(rows) > 50
    for i in rows:
        set_state_from_observation(env, observations[i])
        observation, reward, terminated, *_ = env.step(GOLDEN[f"{task}/action"][i])
        expected = GOLDEN[f"{task}/next_observation"][i]
        np.testing.assert_allclose(observation, expected, rtol=1e-6, atol=1e-6)
        assert reward == pytest.approx(GOLDEN[f"{task}/reward"][i], abs=1e-6)
        assert terminated == GOLDEN[f"{task}/terminal"][i]


def test_ant_hides_two_positions() -> None:
    env = make_env("Ant-v2")
    env.reset(seed=0)
    observation = env.step(np.full(8, 0.3, np.float32))[0]
    set_state_from_observation(env, observation)
    simulation: Any = env.unwrapped
    np.testing.assert_array_equal(simulation.data.qpos[:2], 0)
    np.testing.assert_allclose(simulation.data.qpos[2:], observation[:13])
    np.testing.assert_allclose(simulation.data.qvel, observation[13:27])


def test_what_happened_before_leaves_no_trace() -> None:
    env = make_env("Hopper-v2")
    start = env.reset(seed=0)[0]
    action = np.array([0.3, -0.2, 0.9], np.float32)
    results = []
    for steps_before in (0, 7):
        for _ in range(steps_before):
            env.step(-action)
        set_state_from_observation(env, start)
        results.append(env.step(action)[0])
    np.testing.assert_array_equal(*results)


def test_bad_observations_and_other_environments_are_refused() -> None:
    env = make_env("Hopper-v2")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(12,\), expected \(11,\)"):
        set_state_from_observation(env, np.zeros(12))
    with pytest.raises(ValueError, match="finite"):
        set_state_from_observation(env, np.full(11, np.nan))
    with pytest.raises(TypeError, match="an observation does not determine its state"):
        set_state_from_observation(make_env("Pendulum-v1"), np.zeros(3))


DMC_TASKS = [
    "acrobot-swingup",
    "ball_in_cup-catch",
    "cartpole-three_poles",
    "cheetah-run",
    "finger-turn_hard",
    "hopper-hop",
    "pendulum-swingup",
    "point_mass-easy",
    "reacher-hard",
    "walker-walk",
]


@pytest.mark.parametrize("task", DMC_TASKS)
def test_a_deepmind_task_goes_on_as_if_it_had_never_stopped(task: str) -> None:
    """A second simulator, of another episode, is set from each float32 observation of the first."""
    pytest.importorskip("shimmy")
    first, second = make_env(f"{task}-v0"), make_env(f"{task}-v0")
    observation = first.reset(seed=0)[0]
    second.reset(seed=1)
    rng = np.random.default_rng(0)
    moved = 0.0
    for _ in range(25):
        action = rng.uniform(-1, 1, first.action_space.shape).astype(np.float32)
        set_state_from_observation(second, observation)
        expected, reward, *_ = first.step(action)
        found, reward_found, *_ = second.step(action)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert reward_found == pytest.approx(reward, abs=1e-5)
        moved = max(moved, float(np.abs(expected - observation).max()))
        observation = expected
    assert moved > 1e-3


def test_tasks_that_hide_their_state_are_refused() -> None:
    pytest.importorskip("shimmy")
    hiding = [env_id for env_id in env_ids() if not determines_state(env_id)]
    assert {"quadruped-walk-v0", "humanoid-run-v0", "point_mass-hard-v0"} <= set(hiding)
    assert not {f"{task}-v0" for task in DMC_TASKS} & set(hiding)
    env = make_env("quadruped-walk-v0")
    observation = env.reset(seed=0)[0]
    with pytest.raises(TypeError, match="an observation does not determine its state"):
        set_state_from_observation(env, observation)
    with pytest.raises(TypeError, match="an observation does not determine its state"):
        shows_state(env, observation[None])


def test_a_clipped_velocity_hides_the_state() -> None:
    observations = np.zeros((4, 11), np.float32)
    observations[0, 5] = 10
    observations[1, 10] = -10
    observations[2, 4] = 12  # an angle
    observations[3, 7] = 9.99
    shown = shows_state(make_env("Hopper-v2"), observations)
    np.testing.assert_array_equal(shown, [False, False, True, True])
    assert shows_state(make_env("HalfCheetah-v2"), np.full((1, 17), 11, np.float32)).all()


def test_the_goal_of_antmaze_is_hidden() -> None:
    assert not shows_goal(make_env("antmaze-umaze-v2"))
    assert shows_goal(make_env("maze2d-umaze-v1"))

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.envs import make_env, set_state_from_observation

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mujoco210_dev.npz")


@pytest.mark.parametrize("task", ["HalfCheetah", "Hopper", "Walker2d"])
def test_a_recorded_observation_steps_to_the_recorded_next_one(task: str) -> None:
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
    with pytest.raises(TypeError, match="cannot be told from an observation"):
        set_state_from_observation(make_env("Pendulum-v1"), np.zeros(3))

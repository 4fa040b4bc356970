from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.envs import make_env

pytestmark = pytest.mark.arithmetic

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mujoco210_dev.npz")
TASKS = ("HalfCheetah", "Hopper", "Walker2d")


def golden(task: str) -> dict[str, Any]:
    return {key.split("/")[1]: GOLDEN[key] for key in GOLDEN.files if key.startswith(task + "/")}


@pytest.mark.parametrize("task", TASKS)
def test_one_step_from_every_recorded_state(task: str) -> None:
    """Within 1e-6, float32's precision; of a state moved by 1e-13 a step makes 4e-10 at most."""
    rows = golden(task)
    assert len(rows["reward"]) == 300
    simulation: Any = make_env(f"{task}-v2").unwrapped  # float64 observations
    for i in range(300):
        simulation.set_state(rows["qpos"][i], rows["qvel"][i])
        observation, reward, terminated, truncated, _ = simulation.step(rows["action"][i])
        np.testing.assert_allclose(observation, rows["next_observation"][i], rtol=0, atol=1e-6)
        assert abs(reward - rows["reward"][i]) < 1e-6
        assert terminated == rows["terminal"][i]
        assert not truncated


def test_recorded_terminals_of_both_kinds_are_covered() -> None:
    for task in ("Hopper", "Walker2d"):
        assert 0 < golden(task)["terminal"].mean() < 1


def test_the_time_limit_is_a_truncation_and_a_fall_is_not() -> None:
    env = make_env("HalfCheetah-v2")
    env.reset(seed=0)
    ends = [env.step(np.zeros(6, np.float32))[2:4] for _ in range(1000)]
    assert ends == [(False, False)] * 999 + [(False, True)]

    env = make_env("Hopper-v2")
    env.reset(seed=0)
    for _ in range(1000):
        _, _, terminated, truncated, _ = env.step(np.ones(3, np.float32))
        if terminated:
            break
    assert terminated
    assert not truncated


@pytest.mark.parametrize(("env_id", "size"), [("Ant-v2", 111), ("Humanoid-v2", 376)])
def test_contact_forces_are_zero_as_in_mujoco_2(env_id: str, size: int) -> None:
    env = make_env(env_id)
    assert env.observation_space.shape == (size,)
    observations = [env.reset(seed=0)[0]]
    for _ in range(60):
        observations.append(env.step(np.zeros(env.action_space.shape, np.float32))[0])
    assert (np.abs(env.unwrapped.data.cfrc_ext) > 1).any()  # the body does stand on the floor
    columns = np.array(observations)
    assert (columns[:, -84:] == 0).all()
    assert (np.abs(columns[:, :-84]).max(axis=1) > 0).all()


def test_ant_pays_for_its_actions_and_for_no_contact() -> None:
    env = make_env("Ant-v2")
    env.reset(seed=1)
    simulation: Any = env.unwrapped
    action = np.linspace(-1, 1, 8).astype(np.float32)
    for _ in range(20):
        before = simulation.data.body("torso").xpos[0]
        _, reward, *_ = env.step(action)
        speed = (simulation.data.body("torso").xpos[0] - before) / 0.05
        assert reward == pytest.approx(speed + 1 - 0.5 * np.square(action).sum(), abs=1e-6)


def test_humanoid_action_range_is_its_own() -> None:
    env = make_env("Humanoid-v2")
    env.reset(seed=0)
    env.step(np.full(17, 2.0, np.float32))
    np.testing.assert_allclose(env.unwrapped.data.ctrl, 0.4, rtol=1e-6)

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("dm_control")
pytest.importorskip("shimmy")

from synther.envs import UnknownEnvironmentError, make_env

pytestmark = pytest.mark.arithmetic

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "dmc_dev.npz")
TASKS = sorted({key.split("/")[0] for key in GOLDEN.files})


def test_seven_tasks_are_recorded() -> None:
    assert len(TASKS) == 7


@pytest.mark.parametrize("env_id", TASKS)
def test_a_recorded_trajectory_from_seed_0(env_id: str) -> None:
    """The start to float32's seven digits. Afterwards within 1e-5: processors differ by 1e-14,
    and of a start moved by 1e-12 fifty steps made 2e-7 at most (walker, humanoid, quadruped)."""
    observations = GOLDEN[f"{env_id}/observations"].astype(np.float32)
    env = make_env(env_id)
    observation, _ = env.reset(seed=0)
    np.testing.assert_allclose(observation, observations[0], rtol=1e-6, atol=1e-6)
    assert observation.dtype == np.float32
    for i, action in enumerate(GOLDEN[f"{env_id}/actions"]):
        observation, reward, terminated, truncated, _ = env.step(action)
        np.testing.assert_allclose(observation, observations[i + 1], rtol=1e-5, atol=1e-5)
        assert reward == pytest.approx(GOLDEN[f"{env_id}/rewards"][i], abs=1e-6)
        assert not terminated
        assert not truncated


def test_the_last_of_1000_steps_is_a_truncation() -> None:
    env = make_env("cartpole-balance-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(1000)]
    assert ends == [(False, False)] * 999 + [(False, True)]


def test_a_task_that_really_ends_terminates() -> None:
    env = make_env("lqr-lqr_2_1-v0")
    env.reset(seed=0)
    physics: Any = env.unwrapped._env.physics  # type: ignore[attr-defined]
    with physics.reset_context():
        physics.data.qpos[:] = 0
        physics.data.qvel[:] = 0
    assert env.step(np.zeros(1, np.float32))[2:4] == (True, False)


def test_actions_reach_the_tasks_own_range() -> None:
    env = make_env("quadruped-walk-v0")
    native = env.unwrapped.action_space
    assert native.high.max() > 1  # type: ignore[attr-defined]
    env.reset(seed=0)
    env.step(np.full(12, 7.0, np.float32))
    physics: Any = env.unwrapped._env.physics  # type: ignore[attr-defined]
    np.testing.assert_allclose(physics.control(), native.high)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(env.action_space.high, 1)  # type: ignore[attr-defined]


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UnknownEnvironmentError, match="'cheetah-rum-v0'; nearest: cheetah-run-v0"):
        make_env("cheetah-rum-v0")
    with pytest.raises(UnknownEnvironmentError, match="'cheetah-run'; nearest: cheetah-run-v0"):
        make_env("cheetah-run")


def test_shimmys_own_id_is_the_same_task() -> None:
    ours, theirs = make_env("finger-turn_hard-v0"), make_env("dm_control/finger-turn_hard-v0")
    np.testing.assert_array_equal(theirs.reset(seed=0)[0], ours.reset(seed=0)[0])

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.envs import make_env, set_state_from_observation
from synther.envs.maze2d import LAYOUTS, MAX_EPISODE_STEPS

pytestmark = pytest.mark.arithmetic

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "maze_dev.npz")
ENV_IDS = sorted({key.split("/")[0] for key in GOLDEN.files if key.startswith("maze2d")})


def test_all_six_are_recorded() -> None:
    assert sorted(MAX_EPISODE_STEPS) == ENV_IDS


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_one_step_from_every_recorded_state(env_id: str) -> None:
    """Within 1e-9: of a state moved by 1e-13, a step makes 3e-11 at most (a wall was hit)."""
    rows = {key.split("/")[1]: GOLDEN[key] for key in GOLDEN.files if key.startswith(env_id + "/")}
    simulation: Any = make_env(env_id).unwrapped  # float64 observations
    for i in range(len(rows["reward"])):
        np.testing.assert_array_equal(simulation.target, rows["target"][i])
        simulation.set_state(rows["qpos"][i], rows["qvel"][i])
        observation, reward, terminated, truncated, _ = simulation.step(rows["action"][i])
        np.testing.assert_allclose(observation, rows["next_observation"][i], rtol=0, atol=1e-9)
        assert reward == pytest.approx(rows["reward"][i], abs=1e-9)
        assert terminated == rows["terminal"][i]
        assert not truncated


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_the_goal_counts_within_half_a_cell_and_ends_nothing(env_id: str) -> None:
    env = make_env(env_id)
    env.reset(seed=0)
    goal = env.unwrapped.target  # type: ignore[attr-defined]
    for distance in (0.49, 0.51):
        set_state_from_observation(env, [goal[0], goal[1] - distance, 0, 0])
        _, reward, terminated, *_ = env.step(np.zeros(2, np.float32))
        expected = np.exp(-distance) if "dense" in env_id else float(distance < 0.5)
        assert reward == pytest.approx(expected, abs=1e-3)
        assert not terminated


@pytest.mark.parametrize(("size", "steps"), [("umaze", 300), ("medium", 600), ("large", 800)])
def test_an_episode_ends_by_its_time_limit_only(size: str, steps: int) -> None:
    env = make_env(f"maze2d-{size}-v1")
    env.reset(seed=0)
    ends = [env.step(np.array([0.2, 0.1], np.float32))[2:4] for _ in range(steps)]
    assert ends == [(False, False)] * (steps - 1) + [(False, True)]


def test_resets_cover_every_free_cell_and_no_wall() -> None:
    env = make_env("maze2d-umaze-v1")
    free = {
        (row, column)
        for row, line in enumerate(LAYOUTS["umaze"])
        for column, kind in enumerate(line)
        if kind != "#"
    }
    starts = np.array([env.reset(seed=seed)[0] for seed in range(300)])
    cells = np.round(starts[:, :2])
    assert {(int(row), int(column)) for row, column in cells} == free
    assert np.abs(starts[:, :2] - cells).max() <= 0.1
    assert np.abs(starts[:, :2] - cells).max() > 0.09
    assert starts[:, 2:].std() == pytest.approx(0.1, rel=0.1)


def test_walls_stop_the_ball_and_speed_is_limited() -> None:
    env = make_env("maze2d-umaze-v1")
    env.reset(seed=0)
    set_state_from_observation(env, [3.0, 1.0, 0.0, 50.0])
    observations = [env.step(np.array([0.0, 1.0], np.float32))[0] for _ in range(250)]
    assert observations[0][3] < 6  # 50 is cut to 5 before the step
    assert max(observation[1] for observation in observations) < 3.5  # the outer wall


def test_a_target_can_be_set() -> None:
    env = make_env("maze2d-umaze-dense-v1")
    env.reset(seed=0)
    simulation: Any = env.unwrapped
    simulation.set_target([3.0, 3.0])
    set_state_from_observation(env, [3.0, 3.0, 0.0, 0.0])
    assert env.step(np.zeros(2, np.float32))[1] == pytest.approx(1.0, abs=1e-6)
    marker, ball = simulation.data.site("target").xpos, simulation.data.body("point").xpos
    np.testing.assert_allclose(marker, ball, atol=1e-6)
    with pytest.raises(ValueError, match="two finite numbers"):
        simulation.set_target([np.nan, 0.0])

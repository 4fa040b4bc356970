from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.envs import make_env, set_state_from_observation
from synther.envs.antmaze import MAX_EPISODE_STEPS

pytestmark = pytest.mark.arithmetic

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "maze_dev.npz")
ENV_IDS = sorted({key.split("/")[0] for key in GOLDEN.files if key.startswith("antmaze")})
GOALS = {
    "antmaze-umaze-v2": (0, 8),
    "antmaze-medium-play-v2": (20, 20),
    "antmaze-large-play-v2": (32, 24),
}


def golden(env_id: str) -> dict[str, Any]:
    return {key.split("/")[1]: GOLDEN[key] for key in GOLDEN.files if key.startswith(env_id + "/")}


def test_all_three_are_recorded() -> None:
    assert sorted(MAX_EPISODE_STEPS) == ENV_IDS == sorted(GOALS)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_one_step_from_every_recorded_state(env_id: str) -> None:
    """Within 1e-9: of a state moved by 1e-13, a step makes 5e-12 at most. No row lies so near the
    goal's edge that this changes its reward."""
    rows = golden(env_id)
    simulation: Any = make_env(env_id).unwrapped  # float64 observations
    for i in range(len(rows["reward"])):
        simulation.set_target(rows["target"][i])
        simulation.set_state(rows["qpos"][i], rows["qvel"][i])
        observation, reward, terminated, truncated, _ = simulation.step(rows["action"][i])
        np.testing.assert_allclose(observation, rows["next_observation"][i], rtol=0, atol=1e-9)
        assert reward == rows["reward"][i]
        assert terminated == rows["terminal"][i]
        assert not truncated


def test_a_recorded_observation_steps_to_the_recorded_next_one() -> None:
    """To float32's seven digits, which is what the environment's observations have."""
    rows = golden("antmaze-umaze-v2")
    env = make_env("antmaze-umaze-v2")
    env.reset(seed=0)
    for i in range(50):
        set_state_from_observation(env, rows["observation"][i])
        observation = env.step(rows["action"][i])[0]
        np.testing.assert_allclose(observation, rows["next_observation"][i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_goals_are_drawn_anew_in_their_cell_at_each_reset(env_id: str) -> None:
    env = make_env(env_id)
    simulation: Any = env.unwrapped
    targets = []
    for seed in range(200):
        env.reset(seed=seed)
        targets.append(simulation.target - GOALS[env_id])
    offsets = np.array(targets)
    assert offsets.min() >= 0
    assert offsets.max() <= 1.5
    np.testing.assert_allclose(offsets.mean(axis=0), 0.75, atol=0.1)
    assert offsets.std() == pytest.approx(np.sqrt((1 + 0.25) / 12), rel=0.1)
    recorded = golden(env_id)["target"] - GOALS[env_id]  # D4RL's own lie in the same range
    assert 0 <= recorded.min() <= recorded.max() <= 1.5


def test_reaching_the_goal_pays_one_and_ends_the_episode() -> None:
    env = make_env("antmaze-medium-play-v2")
    start = env.reset(seed=0)[0]
    goal = env.unwrapped.target  # type: ignore[attr-defined]
    for distance, reached in ((0.4, True), (0.8, False)):
        observation = start.copy()
        observation[:2] = goal - [distance, 0]
        observation[15:] = 0
        set_state_from_observation(env, observation)
        _, reward, terminated, truncated, _ = env.step(np.zeros(8, np.float32))
        assert (reward, terminated, truncated) == (float(reached), reached, False)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_the_start_is_at_the_origin_and_inside_walls(env_id: str) -> None:
    env = make_env(env_id)
    starts = np.array([env.reset(seed=seed)[0] for seed in range(50)])
    assert np.abs(starts[:, :2]).max() <= 0.1
    model = env.unwrapped.model  # type: ignore[attr-defined]
    walls = model.geom_pos[model.geom_size[:, 0] == 2][:, :2]
    assert {(-4.0, 0.0), (0.0, -4.0)} <= {tuple(position) for position in walls.tolist()}
    assert (0.0, 0.0) not in {tuple(position) for position in walls.tolist()}
    assert GOALS[env_id] not in {tuple(position) for position in walls.tolist()}


def test_time_limits() -> None:
    for env_id, steps in MAX_EPISODE_STEPS.items():
        env = make_env(env_id)
        assert env.spec is not None
        assert env.spec.max_episode_steps == steps == (700 if "umaze" in env_id else 1000)
        assert env.observation_space.shape == (29,)
        assert env.action_space.shape == (8,)

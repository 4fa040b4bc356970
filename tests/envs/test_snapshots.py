"""What follows a restored snapshot is what would have followed without it."""

import numpy as np
import pytest

from synther.envs import make_env
from synther.envs.snapshots import Snapshots
from synther.files import checkpoint

pytest.importorskip("mujoco")

FAMILIES = [
    "HalfCheetah-v2",
    "Humanoid-v2",  # reads body positions that are a step old
    "maze2d-umaze-v1",
    "antmaze-umaze-v2",
    "reacher-hard-v0",  # moves its target in the model at each reset
    "quadruped-walk-v0",
    "Pendulum-v1",  # no MuJoCo
]


def play(env, actions):
    """Every number that the environment gives, resets included."""
    numbers = []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        numbers.append([*observation, reward, terminated, truncated])
        if terminated or truncated:
            numbers.append([*env.reset()[0], 0, 0, 0])
    return np.array(numbers)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_episode_continues_bit_for_bit_from_a_file(name, tmp_path):
    env = make_env(name, max_episode_steps=60)
    snapshots = Snapshots(env)
    actions = np.random.default_rng(0).uniform(-1, 1, (100, *env.action_space.shape))
    actions = actions.astype(np.float32)
    env.reset(seed=1)
    play(env, actions[:25])
    checkpoint.save(tmp_path / "state.pt", {"env": snapshots.take()})
    expected = play(env, actions[25:])  # over the time limit, so that a reset is among it

    other = make_env(name, max_episode_steps=60)
    again = Snapshots(other)
    other.reset(seed=2)
    play(other, actions[:3])
    again.put_back(checkpoint.load(tmp_path / "state.pt")["env"])
    np.testing.assert_array_equal(play(other, actions[25:]), expected)


@pytest.mark.parametrize("name", ["HalfCheetah-v2", "reacher-hard-v0", "Pendulum-v1"])
def test_a_snapshot_of_an_episode_that_has_just_begun(name, tmp_path):
    """gymnasium's checker then holds the first observation, an array in a tuple."""
    env = make_env(name)
    snapshots = Snapshots(env)
    env.reset(seed=1)
    checkpoint.save(tmp_path / "state.pt", {"env": snapshots.take()})
    actions = np.zeros((5, *env.action_space.shape), np.float32)
    expected = play(env, actions)
    other = make_env(name)
    again = Snapshots(other)
    other.reset(seed=2)
    again.put_back(checkpoint.load(tmp_path / "state.pt")["env"])
    np.testing.assert_array_equal(play(other, actions), expected)


def test_a_snapshot_is_a_copy():
    env = make_env("Hopper-v2")
    snapshots = Snapshots(env)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    state = snapshots.take()
    first = env.step(action)[0]
    env.step(action + 0.5)
    snapshots.put_back(state)
    np.testing.assert_array_equal(env.step(action)[0], first)


def test_an_environment_with_hidden_state_has_no_snapshot():
    env = make_env("Pendulum-v1")
    snapshots = Snapshots(env)
    env.reset(seed=0)
    assert snapshots.take() is not None
    env.unwrapped.engine = iter([1, 2, 3])  # state that lies in somebody's object
    assert snapshots.take() is None

"""The shipped data set is what its description says."""

import shlex

import numpy as np

from synther.datasets import load_dataset
from synther.datasets.load import SHIPPED_DIR
from synther.envs import make_env, set_state_from_observation
from synther.online.online_exp import build_parser
from synther.transitions import Transitions


def episodes_are_whole(transitions: Transitions) -> bool:
    """Each row starts where the one before it ended, unless that one was the last of an episode."""
    same = (transitions.next_observations[:-1] == transitions.observations[1:]).all(axis=1)
    return bool(np.array_equal(~same, transitions.terminals[:-1] == 1))


def test_the_shipped_set_is_small_mixed_and_has_real_terminals() -> None:
    data = load_dataset("hopper-demo-v0")
    assert (SHIPPED_DIR / "hopper-demo-v0.npz").stat().st_size <= 4_000_000
    assert data.metadata["env_id"] == "Hopper-v2"
    assert (data.observation_dim, data.action_dim) == (11, 3)
    assert data.terminals.sum() == data.metadata["episodes"] > 100
    assert episodes_are_whole(data)
    ends = np.flatnonzero(data.terminals) + 1
    finished = data.rewards[: ends[-1]]  # the last episode was still under way
    returns = np.add.reduceat(finished, np.r_[0, ends[:-1]], dtype=np.float64)
    stated = data.metadata["episode_return"]
    assert [returns.mean().round(1), returns.min().round(1), returns.max().round(1)] == [
        stated["mean"],
        stated["min"],
        stated["max"],
    ]
    assert returns.min() < 100
    assert returns.max() > 500


def test_the_shipped_set_follows_the_physics_it_names() -> None:
    data = load_dataset("hopper-demo-v0")
    env = make_env(data.metadata["env_id"])
    env.reset(seed=0)
    in_range = np.abs(data.observations).max(axis=1) < 9.9  # beyond, velocities were clipped
    terminal_rows = np.flatnonzero(in_range & (data.terminals == 1))[:20]
    rows = np.random.default_rng(0).choice(np.flatnonzero(in_range), 80, replace=False)
    for row in (*rows, *terminal_rows):
        set_state_from_observation(env, data.observations[row])
        observation, reward, terminated, _, _ = env.step(data.actions[row])
        # Recorded states are float32; what that rounds away is all that may differ.
        np.testing.assert_allclose(observation, data.next_observations[row], atol=1e-5)
        np.testing.assert_allclose(reward, data.rewards[row], atol=1e-5)
        assert terminated == data.terminals[row]


def test_the_shipped_set_names_the_command_that_made_it() -> None:
    metadata = load_dataset("hopper-demo-v0").metadata
    interpreter, script, *words = shlex.split(metadata["command"])
    assert (interpreter, script) == ("python3", "synther/online/online_exp.py")
    arguments = build_parser().parse_args(words)
    assert arguments.env == metadata["env_id"]
    assert arguments.seed == metadata["seed"] == 0
    assert arguments.gin_config_files == ["config/online/sac.gin"]
    assert arguments.gin_params == ["redq_sac.epochs = 40"]
    assert metadata["steps"] == 40_000

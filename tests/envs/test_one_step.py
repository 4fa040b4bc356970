"""Steps of the simulator from many observations against stepping it by hand."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.envs import make_env
from synther.envs.one_step import NotSimulatedError, simulate_steps

pytestmark = pytest.mark.arithmetic

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mujoco210_dev.npz")


def test_recorded_transitions_come_out_whatever_their_order() -> None:
    """Steps that the real Hopper-v2 took, some of which end the episode; to the seven digits of
    float32, which the arrays are of."""
    task = "Hopper"
    names = ("observation", "action", "next_observation", "reward", "terminal", "qvel")
    golden = {name: GOLDEN[f"{task}/{name}"] for name in names}
    unclipped = (np.abs(golden["qvel"]) < 10).all(axis=1)
    ended = np.flatnonzero(unclipped & (golden["terminal"] > 0))[:10]
    rows = np.random.default_rng(0).permutation(
        np.concatenate([ended, np.flatnonzero(unclipped & (golden["terminal"] == 0))[:30]])
    )
    assert len(ended) > 2
    observations = golden["observation"][rows]
    done: list[int] = []
    steps = simulate_steps(f"{task}-v2", observations, golden["action"][rows], advance=done.append)
    np.testing.assert_allclose(
        steps.next_observations, golden["next_observation"][rows], rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(steps.rewards, golden["reward"][rows], atol=1e-6)
    np.testing.assert_array_equal(steps.terminals, golden["terminal"][rows] > 0)
    assert steps.stable.all()
    assert steps.reward_known
    assert sum(done) == len(rows)


def test_more_rows_than_an_episode_has_steps() -> None:
    """A DeepMind Control task starts anew instead of taking step 1001."""
    pytest.importorskip("shimmy")
    start = make_env("pendulum-swingup-v0").reset(seed=0)[0]
    observations = np.repeat(start[None], 1010, axis=0)
    steps = simulate_steps("pendulum-swingup-v0", observations, np.full((1010, 1), 0.5, np.float32))
    np.testing.assert_array_equal(
        steps.next_observations, steps.next_observations[:1].repeat(1010, 0)
    )


@pytest.mark.parametrize("env_id", ["Hopper-v2", "hopper-hop-v0"])
def test_an_unstable_row_spoils_no_other(env_id: str) -> None:
    pytest.importorskip("shimmy")
    env = make_env(env_id)
    start = env.reset(seed=0)[0]
    observations = np.repeat(start[None], 3, axis=0)
    observations[1, :3] = 1e9
    steps = simulate_steps(env_id, observations, np.zeros((3, *env.action_space.shape), np.float32))
    np.testing.assert_array_equal(steps.stable, [True, False, True])
    assert np.isnan(steps.next_observations[1]).all()
    np.testing.assert_array_equal(steps.next_observations[0], steps.next_observations[2])


def test_rows_of_another_environment_are_refused() -> None:
    with pytest.raises(NotSimulatedError, match=r"Hopper-v2 has observations \(11,\)"):
        simulate_steps("Hopper-v2", np.zeros((2, 3), np.float32), np.zeros((2, 1), np.float32))
    with pytest.raises(NotSimulatedError, match="Pendulum-v1 does not determine the state"):
        simulate_steps("Pendulum-v1", np.zeros((2, 3), np.float32), np.zeros((2, 1), np.float32))

"""Dynamics error: next to nothing for real rows, and what was added where an error was added."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.datasets import load_dataset
from synther.diffusion.fidelity import dynamics
from synther.diffusion.fidelity.dynamics import dynamics_error
from synther.diffusion.fidelity.held_out import draw
from synther.envs import make_env
from synther.envs.one_step import NotSimulatedError
from synther.transitions import Transitions
from tests.data import random_transitions

pytestmark = pytest.mark.arithmetic

REAL = load_dataset("hopper-demo-v0")
ROWS = 150


def changed(**arrays: np.ndarray) -> Transitions:
    return Transitions.from_arrays({**REAL.arrays(), **arrays})


def test_real_rows_are_at_the_rounding_of_float32() -> None:
    found = dynamics_error(REAL, "Hopper-v2", rows=ROWS)
    assert found.next_observation is not None
    assert found.reward is not None
    assert 0 < found.next_observation < 1e-8
    assert found.reward < 1e-8
    assert found.terminal == 0
    assert found.rows == ROWS * (1 - found.unknown)
    assert found.reason is None


def test_an_error_of_so_many_standard_deviations_is_that_number_squared() -> None:
    steps = np.where(np.arange(len(REAL)) % 2, 0.3, -0.3)
    worse = changed(
        next_observations=REAL.next_observations
        + steps[:, None] * REAL.next_observations.std(axis=0),
        rewards=REAL.rewards + 2 * steps * REAL.rewards.std(),
        terminals=1 - REAL.terminals,
    )
    found = dynamics_error(worse, "Hopper-v2", units=REAL, rows=ROWS)
    assert found.next_observation == pytest.approx(0.09, rel=1e-4)
    assert found.median == pytest.approx(0.09, rel=1e-4)
    assert found.reward == pytest.approx(0.36, rel=1e-4)
    assert found.terminal == 1


def test_units_are_the_given_rows_not_the_samples_own() -> None:
    doubled = changed(next_observations=2 * REAL.next_observations)
    rows = doubled.subset(draw(len(doubled), ROWS, 0))
    with_units = dynamics_error(rows, "Hopper-v2", units=REAL)
    with_own = dynamics_error(rows, "Hopper-v2", units=doubled)
    assert with_units.next_observation == pytest.approx(4 * with_own.next_observation, rel=1e-4)


def test_noise_on_the_actions_raises_the_error() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for spread in (0, 0.05, 0.3):
        noisy = changed(actions=REAL.actions + spread * rng.normal(size=REAL.actions.shape))
        errors.append(dynamics_error(noisy, "Hopper-v2", units=REAL, rows=ROWS).next_observation)
    assert errors[1] > 1e-4
    assert errors[2] > 3 * errors[1]


def test_rows_with_clipped_velocities_are_left_out() -> None:
    clipped = np.abs(REAL.observations[:, 5:]).max(axis=1) >= 10
    assert clipped.any()
    chosen = np.concatenate([np.flatnonzero(clipped)[:5], np.flatnonzero(~clipped)[:15]])
    found = dynamics_error(REAL.subset(chosen), "Hopper-v2", units=REAL)
    assert found.unknown == 0.25
    assert found.rows == 15
    assert found.next_observation < 1e-8
    nothing = dynamics_error(REAL.subset(clipped), "Hopper-v2", units=REAL)
    assert nothing.next_observation is None
    assert nothing.reason == "not defined here: no row could be simulated"


def test_rows_on_which_the_simulation_diverges_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = REAL.subset(draw(len(REAL), 40, 0))
    observations = rows.observations.copy()
    wild = [3, 7]
    observations[wild, :5] = 1e8
    observations[wild, 5:] = 9
    known = (np.abs(observations[:, 5:]) < 10).all(axis=1)
    found = dynamics_error(
        Transitions.from_arrays({**rows.arrays(), "observations": observations}), "Hopper-v2"
    )
    assert found.unstable == len(wild) / len(rows)
    assert found.rows == known.sum() - len(wild)
    assert found.next_observation < 1e-6
    assert list(tmp_path.iterdir()) == []


def test_columns_that_are_constant_in_the_data_do_not_count() -> None:
    rows = REAL.subset(draw(len(REAL), 30, 0))
    constant = REAL.next_observations.copy()
    constant[:, 0] = 7 + 1e-7 * np.random.default_rng(0).normal(size=len(REAL))
    off = rows.next_observations.copy()
    off[:, 0] += 5
    found = dynamics_error(
        Transitions.from_arrays({**rows.arrays(), "next_observations": off}),
        "Hopper-v2",
        units=changed(next_observations=constant),
    )
    assert found.next_observation < 1e-8


def test_deepmind_control_rows_are_simulated() -> None:
    pytest.importorskip("shimmy")
    env = make_env("cheetah-run-v0")
    rng = np.random.default_rng(0)
    observation, rows = env.reset(seed=0)[0], []
    for _ in range(60):
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        following, reward, *_ = env.step(action)
        rows.append((observation, action, reward, following))
        observation = following
    real = Transitions(*map(np.array, zip(*rows, strict=True)), terminals=np.zeros(60))
    found = dynamics_error(real, "cheetah-run-v0")
    assert found.next_observation < 1e-10
    assert found.reward < 1e-8


@pytest.mark.parametrize(
    ("env_id", "reason"),
    [
        (None, "the data do not name their environment"),
        ("Hoper-v2", "no environment 'Hoper-v2'; nearest: Hopper-v2"),
        ("Walker2d-v2", "Walker2d-v2 has observations .17,. and actions .6,., the rows have"),
    ],
)
def test_where_it_is_not_defined_the_reason_is_given(env_id: str | None, reason: str) -> None:
    found = dynamics_error(REAL, env_id, rows=5)
    assert found.next_observation is None
    assert found.rows == 0
    assert found.reason is not None
    assert re.match(f"not defined here: {reason}", found.reason)


def test_an_observation_that_hides_the_state_is_not_defined() -> None:
    rows = Transitions(*(np.zeros(shape) for shape in ((4, 3), (4, 1), (4,), (4, 3), (4,))))
    found = dynamics_error(rows, "Pendulum-v1")
    assert found.reason is not None
    assert "an observation of Pendulum-v1 does not determine the state" in found.reason


def test_rewards_towards_a_hidden_goal_are_not_defined() -> None:
    env = make_env("antmaze-umaze-v2")
    start = env.reset(seed=0)[0]
    action = np.zeros(8, np.float32)
    following = env.step(action)[0]
    row = Transitions(start[None], action[None], np.zeros(1), following[None], np.zeros(1))
    units = Transitions(
        *(np.random.default_rng(0).normal(size=s) for s in ((9, 29), (9, 8), 9)),
        np.random.default_rng(1).normal(size=(9, 29)),
        np.zeros(9),
    )
    found = dynamics_error(row, "antmaze-umaze-v2", units=units)
    assert found.next_observation is not None
    assert found.next_observation < 1e-8
    assert found.reward is None
    assert found.reason == "no reward error: the goal is hidden"


def test_the_simulator_gets_actions_that_were_mapped_from_their_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its environments take [-1, 1] for the whole of their range."""
    rows = random_transitions(30, 3, 2)
    asked = []

    def take(env_id: str, observations: np.ndarray, actions: np.ndarray, **_: object) -> None:
        asked.append(actions)
        raise NotSimulatedError("recorded")

    monkeypatch.setattr(dynamics, "simulate_steps", take)
    own = replace(rows, actions=2 * rows.actions, metadata={"action_low": -2, "action_high": 2})
    for drawn, units in ((rows, rows), (own, own), (replace(own, metadata={}), own)):
        dynamics_error(drawn, "Any-v0", units=units)
    for actions in asked:
        np.testing.assert_allclose(actions, rows.actions, rtol=1e-6, atol=1e-7)

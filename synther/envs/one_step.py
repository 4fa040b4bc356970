"""The real simulator takes one step from each of many observations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synther.envs import dmc
from synther.envs.registry import make_env
from synther.envs.simulators import require
from synther.envs.states import set_state_from_observation, shows_goal, shows_state

if TYPE_CHECKING:
    import gymnasium


class NotSimulatedError(ValueError):
    """The rows cannot be put into this simulator; the message says why."""


@dataclass(frozen=True, eq=False)
class Steps:
    """The simulator's answers to N observations and actions.

    Args:
        next_observations: ``[N, O]`` float32.
        rewards: ``[N]`` float64.
        terminals: ``[N]``, whether the episode truly ended.
        known: ``[N]``, whether the observation holds the whole state; other rows are not simulated.
        stable: ``[N]``, whether the state was known and the simulation stayed finite; the other
            rows are NaN.
        reward_known: whether rewards and terminals follow from observation and action; not in
            antmaze, whose goal is hidden.
    """

    next_observations: NDArray[np.float32]
    rewards: NDArray[np.float64]
    terminals: NDArray[np.bool_]
    known: NDArray[np.bool_]
    stable: NDArray[np.bool_]
    reward_known: bool


def simulate_steps(
    env_id: str,
    observations: NDArray[np.float32],
    actions: NDArray[np.float32],
    *,
    advance: Callable[[int], object] | None = None,
) -> Steps:
    """Put the simulator into the state of each observation and take the action; no row depends on
    another one.

    Args:
        env_id: a name for ``make_env``.
        observations: ``[N, O]``.
        actions: ``[N, A]``, clipped to [-1, 1], which stand for the environment's own range.
        advance: told how many more rows are done, of those whose state is known.

    Raises:
        NotSimulatedError: the environment's observations do not hold its state, or it has another
            number of columns.
        MissingSimulatorError, UnknownEnvironmentError: see ``make_env``.
    """
    env = make_env(env_id)
    try:
        wanted = (env.observation_space.shape, env.action_space.shape)
        if (observations.shape[1:], actions.shape[1:]) != wanted:
            raise NotSimulatedError(
                f"{env_id} has observations {wanted[0]} and actions {wanted[1]}, the rows have "
                f"{observations.shape[1:]} and {actions.shape[1:]}"
            )
        env.reset(seed=0)
        try:
            known = shows_state(env, observations)
        except TypeError as error:
            raise NotSimulatedError(
                f"an observation of {env_id} does not determine the state of its simulator"
            ) from error
        steps = Steps(
            next_observations=np.full(observations.shape, np.nan, np.float32),
            rewards=np.full(len(observations), np.nan),
            terminals=np.zeros(len(observations), bool),
            known=known,
            stable=known.copy(),
            reward_known=shows_goal(env),
        )
        spec = env.unwrapped.spec
        unstable = dmc.physics_errors() if spec and dmc.is_dmc(spec.id) else ()
        with _silent_mujoco():
            for row in np.flatnonzero(known):
                try:
                    over = _step(env, observations[row], actions[row], int(row), steps)
                except unstable:
                    steps.stable[row], over = False, True
                if over:
                    env.reset()  # some simulators refuse to step on
                if advance:
                    advance(1)
    finally:
        env.close()
    return steps


def _step(
    env: gymnasium.Env[Any, Any],
    observation: NDArray[np.float32],
    action: NDArray[np.float32],
    row: int,
    steps: Steps,
) -> bool:
    """Fill in the row; whether the episode is over."""
    set_state_from_observation(env, observation)
    found, reward, terminated, truncated, _ = env.step(action)
    if _diverged(env):
        steps.stable[row] = False
    else:
        steps.next_observations[row] = found
        steps.rewards[row] = float(reward)
        steps.terminals[row] = terminated
    return terminated or truncated


def _diverged(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether MuJoCo gave up on the state and put the model back to its start."""
    data = getattr(env.unwrapped, "data", None)
    if data is None:
        return False
    kinds = require("mujoco").mjtWarning
    bad = (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC)
    return any(data.warning[int(kind)].number for kind in bad)


@contextlib.contextmanager
def _silent_mujoco() -> Iterator[None]:
    """No text for each unstable row, on the terminal and in a file in the working directory."""
    mujoco = require("mujoco")
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)

"""A simulator is put into the state that an observation stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synther.envs.dmc import suite_environment
from synther.envs.dmc_states import determines_state, set_dmc_state
from synther.envs.simulators import require

if TYPE_CHECKING:
    import gymnasium


VELOCITY_CLIP = 10.0
_CLIPPED = ("Hopper", "Walker2d")  # gym's tasks; the DeepMind Control ones do not clip


def set_state_from_observation(env: gymnasium.Env[Any, Any], observation: ArrayLike) -> None:
    """Put the simulator into the state that an observation stands for.

    Args:
        env: from ``make_env``, after a ``reset()``: a locomotion task (``-v2``, or gymnasium's own
            with a hidden position), maze2d, antmaze, or one of the DeepMind Control tasks of
            ``dmc_states.py``.
        observation: ``[O]``. The hidden horizontal position (x, and y for a free body) is
            unknowable and set to 0; rewards and observations do not depend on it. Velocities beyond
            those at which Hopper and Walker2d clip are lost: see :func:`shows_state`.

    Raises:
        TypeError: an environment that cannot be set from its observation.
        ValueError: an observation of the wrong shape, or not finite.
    """
    simulation: Any = env.unwrapped
    hidden = _hidden_positions(simulation)
    control = _dmc_environment(env)
    if hidden is None and control is None:
        raise TypeError(f"{env}: an observation does not determine its state")
    values = np.asarray(observation, np.float64)
    if values.shape != env.observation_space.shape or not np.isfinite(values).all():
        raise ValueError(
            f"{env}: an observation of shape {values.shape}, expected "
            f"{env.observation_space.shape} finite numbers"
        )
    if hidden is None:
        set_dmc_state(control, simulation.spec.id, values)
        return
    model = simulation.model
    positions = model.nq - hidden
    qpos = np.concatenate([np.zeros(hidden), values[:positions]])
    # No trace of what came before, in the solver either.
    require("mujoco").mj_resetData(model, simulation.data)
    simulation.set_state(qpos, values[positions : positions + model.nv])


def shows_state(
    env: gymnasium.Env[Any, Any], observations: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """A mask ``[N]`` of the observations ``[N, O]`` that hold the whole state.

    All, but for Hopper's and Walker2d's: those show velocities clipped to +-10, so that a velocity
    of 10 may have been any larger one.

    Raises:
        TypeError: an environment none of whose observations do.
    """
    simulation: Any = env.unwrapped
    hidden = _hidden_positions(simulation)
    if hidden is None and _dmc_environment(env) is None:
        raise TypeError(f"{env}: an observation does not determine its state")
    if simulation.spec.id.rsplit("-", 1)[0] not in _CLIPPED:
        return np.ones(len(observations), bool)
    velocities = observations[:, simulation.model.nq - hidden :]
    return np.asarray((np.abs(velocities) < VELOCITY_CLIP).all(axis=1))


def shows_goal(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether rewards and terminals follow from observation and action: not in antmaze, where every
    reset draws a goal that the observation does not hold."""
    simulation: Any = env.unwrapped
    return not simulation.spec.id.startswith("antmaze")


def _dmc_environment(env: gymnasium.Env[Any, Any]) -> Any:
    """dm_control's own environment; None where it is none, or its observation hides the state."""
    simulation: Any = env.unwrapped
    control = suite_environment(simulation)
    return control if control is not None and determines_state(simulation.spec.id) else None


def _hidden_positions(simulation: Any) -> int | None:
    """Leading positions that an observation leaves out; None where it does not hold the state."""
    if hasattr(simulation, "hidden_positions"):
        return int(simulation.hidden_positions)
    if not getattr(simulation, "_exclude_current_positions_from_observation", False):
        return None
    free_body = simulation.model.jnt_type[0] == require("mujoco").mjtJoint.mjJNT_FREE
    return 2 if free_body else 1

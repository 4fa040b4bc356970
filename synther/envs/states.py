"""Put a simulator into the state that an observation stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from synther.envs.simulators import require

if TYPE_CHECKING:
    import gymnasium


def set_state_from_observation(env: gymnasium.Env[Any, Any], observation: ArrayLike) -> None:
    """Put the simulator into the state that an observation stands for.

    Args:
        env: from ``make_env``, after a ``reset()``: a locomotion task (``-v2``, or gymnasium's own
            with a hidden position), maze2d or antmaze.
        observation: ``[O]``. The hidden horizontal position (x, and y for a free body) is
            unknowable and set to 0; rewards and observations do not depend on it. Velocities beyond
            the +-10 at which Hopper and Walker2d clip are lost.

    Raises:
        TypeError: an environment that cannot be set from its observation.
        ValueError: an observation of the wrong shape, or not finite.
    """
    simulation: Any = env.unwrapped
    hidden = _hidden_positions(simulation)
    if hidden is None:
        raise TypeError(f"{env}: its state cannot be told from an observation")
    model = simulation.model
    values = np.asarray(observation, np.float64)
    if values.shape != env.observation_space.shape or not np.isfinite(values).all():
        raise ValueError(
            f"{env}: an observation of shape {values.shape}, expected "
            f"{env.observation_space.shape} finite numbers"
        )
    positions = model.nq - hidden
    qpos = np.concatenate([np.zeros(hidden), values[:positions]])
    # No trace of what came before, in the solver either.
    require("mujoco").mj_resetData(model, simulation.data)
    simulation.set_state(qpos, values[positions : positions + model.nv])


def _hidden_positions(simulation: Any) -> int | None:
    """Leading positions that an observation leaves out; None where it does not hold the state."""
    if hasattr(simulation, "hidden_positions"):
        return int(simulation.hidden_positions)
    if not getattr(simulation, "_exclude_current_positions_from_observation", False):
        return None
    free_body = simulation.model.jnt_type[0] == require("mujoco").mjtJoint.mjJNT_FREE
    return 2 if free_body else 1

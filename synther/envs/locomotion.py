"""The gym locomotion tasks ``-v2`` have the MuJoCo 2.1 physics that D4RL and the release saw.

gymnasium no longer has ``-v2``. Its ``-v4`` classes compute the same rewards, terminations and
resets; their models are compiled as MuJoCo 2.1.0 did (``mujoco210.py``).

What is exact, and how it was measured (mujoco 3.17, ``tests/envs/test_locomotion.py``):

* HalfCheetah, Hopper, Walker2d: one step from each of 300 recorded states of the real ``-v2``.
  Largest error 9e-12 in an observation, 3e-14 in a reward; every terminal equal.
* Ant: 300 steps beside the real ``Ant-v2`` from the same states (``tests/envs/test_legacy.py``,
  gym 0.23.1, MuJoCo 2.1.0): rewards equal to 2e-15, observations to the last bit of float32.
  MuJoCo 2.x left the contact forces at zero (gym issue 1541): the last 84 of 111 observation
  columns are 0 and no contact cost is paid.
* Humanoid: the same 300 steps: rewards to 3e-7, observations to 3e-5 (of up to hundreds), all ends
  equal. Its last 84 of 376 columns are 0 for the same reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synther.envs.mujoco210 import MuJoCo210, on_base
from synther.envs.simulators import require

if TYPE_CHECKING:
    import gymnasium

CONTACT_FORCE_COLUMNS = 84  # 14 bodies x 6, in both models

_CLASSES = {
    "HalfCheetah-v2": ("half_cheetah_v4", "HalfCheetahEnv"),
    "Hopper-v2": ("hopper_v4", "HopperEnv"),
    "Walker2d-v2": ("walker2d_v4", "Walker2dEnv"),
    "Ant-v2": ("ant_v4", "AntEnv"),
    "Humanoid-v2": ("humanoid_v4", "HumanoidEnv"),
}
MAX_EPISODE_STEPS = dict.fromkeys(_CLASSES, 1000)


def make_locomotion(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """One of the keys of ``MAX_EPISODE_STEPS``, without time limit and with its own float64
    observations.

    Args:
        env_id: such as ``Hopper-v2``.
        kwargs: passed to gymnasium's ``-v4`` class, such as ``render_mode``.
    """
    module, name = _CLASSES[env_id]
    base = getattr(require(f"gymnasium.envs.mujoco.{module}"), name)
    env = on_base(MuJoCo210, base)(**kwargs)
    if env_id == "Ant-v2":
        return _with_contact_columns(env, lambda observation: observation)
    if env_id == "Humanoid-v2":
        return _with_contact_columns(env, lambda observation: observation[:-CONTACT_FORCE_COLUMNS])
    return env


def _with_contact_columns(env: Any, keep: Any) -> gymnasium.Env[Any, Any]:
    """Observations end in the zeros that MuJoCo 2.x reported for the contact forces."""
    zeros = np.zeros(CONTACT_FORCE_COLUMNS)

    def transform(observation: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([keep(observation), zeros])

    size = len(transform(np.zeros(env.observation_space.shape)))
    space = require("gymnasium.spaces").Box(-np.inf, np.inf, (size,), np.float64)
    return require("gymnasium.wrappers").TransformObservation(env, transform, space)

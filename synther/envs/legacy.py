"""The original packages (gym 0.23, d4rl 1.1, mujoco-py) can stand behind ``make_env``.

``SYNTHER_BACKEND=gym``, or ``--backend gym`` of a command, chooses them; see ``docs/legacy.md`` for
how they install today. DeepMind Control tasks are dm_control's in either case.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from synther.envs.simulators import MissingSimulatorError, UnknownEnvironmentError, require
from synther.installed import install_hint

if TYPE_CHECKING:
    import gymnasium

Backend = Literal["gymnasium", "gym"]
VARIABLE = "SYNTHER_BACKEND"
# d4rl registers its environments as its modules are imported, and its ``__init__`` leaves out the
# MuJoCo ones where mjrl, which is not on PyPI, is missing. SynthER has names for these.
_REGISTERING = ("d4rl.gym_mujoco", "d4rl.pointmaze", "d4rl.locomotion")


def backend() -> Backend:
    """The backend that ``$SYNTHER_BACKEND`` names; ``gymnasium`` where it names none.

    Raises:
        ValueError: another word.
    """
    name = os.environ.get(VARIABLE, "").strip() or "gymnasium"
    if name not in get_args(Backend):
        raise ValueError(f"{VARIABLE}={name}: expected one of {', '.join(get_args(Backend))}")
    return name  # type: ignore[return-value]


def use_backend(name: str | None) -> None:
    """Choose the backend of this process and of those it starts; None leaves it as it is.

    Raises:
        ValueError: no such backend.
    """
    if name is not None:
        os.environ[VARIABLE] = name
    backend()


def make_legacy(
    env_id: str, *, max_episode_steps: int | None = None, **kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """An environment of gym or d4rl, its step in gymnasium's form, with its own spaces.

    Args:
        env_id: an id of gym's registry, d4rl's included.
        max_episode_steps: another time limit than the registered one.
        kwargs: passed to the environment.

    Raises:
        MissingSimulatorError: the packages are not installed, or do not find MuJoCo 2.1.
        UnknownEnvironmentError: gym and d4rl know no such id.
    """
    gym = _packages()
    try:
        env = gym.make(env_id, **kwargs)
    except gym.error.UnregisteredEnv as error:
        raise UnknownEnvironmentError(f"gym and d4rl know no environment '{env_id}'") from error
    steps = max_episode_steps or env.spec.max_episode_steps
    if steps is not None:
        env = gym.wrappers.TimeLimit(env.unwrapped, steps)
    adapted = require("shimmy.openai_gym_compatibility").GymV21CompatibilityV0(env=env)
    registration = require("gymnasium.envs.registration")
    adapted.spec = registration.EnvSpec(env_id, max_episode_steps=steps)
    return adapted


def locate_d4rl(name: str) -> Path:
    """The file of a D4RL data set where d4rl keeps it, downloaded by d4rl where absent.

    Args:
        name: such as ``hopper-medium-v2``.

    Raises:
        MissingSimulatorError: the packages are not installed, or do not find MuJoCo 2.1.
    """
    env = _packages().make(name)
    try:
        offline_env = importlib.import_module("d4rl.offline_env")
        return Path(offline_env.download_dataset_from_url(env.unwrapped.dataset_url))
    finally:
        env.close()


def _packages() -> Any:
    """The module ``gym``, with d4rl's environments registered in it."""
    os.environ.setdefault("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    try:
        gym = importlib.import_module("gym")
        for module in _REGISTERING:
            importlib.import_module(module)
    except Exception as error:
        # mujoco-py raises a bare Exception where it does not find its libraries.
        raise MissingSimulatorError(
            f"{VARIABLE}=gym needs gym 0.23, d4rl 1.1 and mujoco-py with MuJoCo 2.1: "
            f"{install_hint('legacy')}, then the steps of docs/legacy.md "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''})"
        ) from error
    return gym

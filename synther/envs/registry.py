"""``make_env`` turns a name into an environment, whichever family it is of."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from synther.action_bounds import UnusableSpaceError
from synther.envs import antmaze, dmc, legacy, locomotion, maze2d, ogbench
from synther.envs.faults import EnvironmentFaultError
from synther.envs.names import data_set_names, env_id_of
from synther.envs.simulators import (
    EnvironmentArgumentError,
    MissingSimulatorError,
    UnknownEnvironmentError,
    did_without_renderer,
    require,
)
from synther.envs.wrappers import standardise
from synther.ranges import Count, checked
from synther.suggestions import close_names

if TYPE_CHECKING:
    import gymnasium

# Environments of our own: time limits by name, and the function that makes one.
_FAMILIES = (
    (locomotion.MAX_EPISODE_STEPS, locomotion.make_locomotion),
    (maze2d.MAX_EPISODE_STEPS, maze2d.make_maze2d),
    (antmaze.MAX_EPISODE_STEPS, antmaze.make_antmaze),
)


@checked
def make_env(
    name: str, *, max_episode_steps: Count | None = None, **kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """Make an environment: observations ``[O]`` float32, actions ``[A]`` in [-1, 1], a time limit.

    Args:
        name: a D4RL data set (its environment is made), maze2d and antmaze among them,
            ``Hopper-v2`` and the other locomotion tasks with the physics of the data sets, a
            DeepMind Control task (``cheetah-run-v0``), a task of OGBench
            (``cube-single-singletask-v0``), or any id that gymnasium knows and that has
            ``Box`` actions. ``module:id`` imports the module first, which registers the id.
        max_episode_steps: another time limit than the environment's own.
        kwargs: passed to the environment, such as ``render_mode="rgb_array"``.

    ``SYNTHER_BACKEND=gym`` takes all but DeepMind Control from gym 0.23 and d4rl: ``legacy.py``.

    Returns:
        An environment whose ``terminated`` is a true end and whose ``truncated`` is the time limit.

    Raises:
        UnknownEnvironmentError: no such name; the message has the nearest ones.
        MissingSimulatorError: the simulator is not installed.
        EnvironmentArgumentError: the environment does not take one of ``kwargs``, or its value.
        UnusableSpaceError: an action or observation space that SynthER has no use for.
    """
    env_id = env_id_of(_imported(name))
    if not kwargs:
        return _make(env_id, name, max_episode_steps)
    try:
        if kwargs.keys() - {"render_mode"}:
            # Many look at a value only when they begin or move, and one that has moved is no more
            # as it was made.
            with contextlib.closing(_make(env_id, name, max_episode_steps, **kwargs)) as trial:
                trial.reset(seed=0)
                low, high = trial.action_space.low, trial.action_space.high
                trial.step(np.zeros_like(low).clip(low, high))
        return _make(env_id, name, max_episode_steps, **kwargs)
    except (UnknownEnvironmentError, UnusableSpaceError, EnvironmentFaultError, ImportError):
        raise
    except Exception as error:
        shown = ", ".join(f"{key}={value!r:.40}" for key, value in kwargs.items())
        raise EnvironmentArgumentError(f"{name}: does not take {shown} ({error})") from error


def time_limit(name: str, **kwargs: Any) -> int | None:
    """After how many steps this environment, as :func:`make_env` makes it, cuts an episode off;
    None where it does not, and where it cannot be made here."""
    try:
        env = make_env(name, **kwargs)
    except (UnknownEnvironmentError, MissingSimulatorError):
        return None
    with contextlib.closing(env):
        return env.spec.max_episode_steps if env.spec else None


def _imported(name: str) -> str:
    """``module:id`` -> ``id``, once the module, which registers it, is imported."""
    module, colon, env_id = name.partition(":")
    if not colon:
        return name
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UnknownEnvironmentError(
            f"'{name}': module '{module}' cannot be imported ({error}); install it, or set "
            "PYTHONPATH to its folder"
        ) from error
    return env_id


def _make(env_id: str, name: str, max_episode_steps: int | None, **kwargs: Any) -> Any:
    gymnasium = require("gymnasium")
    if legacy.backend() == "gym" and not dmc.is_dmc(env_id):
        return standardise(
            legacy.make_legacy(env_id, max_episode_steps=max_episode_steps, **kwargs)
        )
    for limits, make in _FAMILIES:
        if env_id in limits:
            env = make(env_id, **kwargs)
            return standardise(_limited(env, env_id, max_episode_steps or limits[env_id]))
    if ogbench.is_task(env_id):
        ogbench.register()
    if env_id in gymnasium.registry and not env_id.startswith("dm_control/"):
        return standardise(_make_registered(env_id, max_episode_steps, **kwargs))
    if dmc.is_dmc(env_id):
        env, order = dmc.make_dmc(env_id, **kwargs)
        env = _limited(env, env_id, max_episode_steps or dmc.MAX_EPISODE_STEPS)
        return standardise(env, order)
    raise UnknownEnvironmentError(f"no environment '{name}'; nearest: {_nearest(name)}")


def _limited(env: gymnasium.Env[Any, Any], env_id: str, steps: int) -> gymnasium.Env[Any, Any]:
    """The environment with a time limit, and with a ``spec`` that tells its name and the limit."""
    registration = require("gymnasium.envs.registration")
    env.unwrapped.spec = registration.EnvSpec(env_id, max_episode_steps=steps)
    return require("gymnasium.wrappers").TimeLimit(env, steps)


def _make_registered(env_id: str, max_episode_steps: int | None, **kwargs: Any) -> Any:
    gymnasium = require("gymnasium")
    if max_episode_steps is not None:
        kwargs["max_episode_steps"] = max_episode_steps
    try:
        return gymnasium.make(env_id, **kwargs)
    except Exception as error:
        if not _exists(gymnasium.registry[env_id]):
            raise UnknownEnvironmentError(
                f"gymnasium no longer has '{env_id}'; nearest: {_nearest(env_id)}"
            ) from error
        if did_without_renderer(error):
            return gymnasium.make(env_id, **kwargs)
        if isinstance(error, gymnasium.error.DependencyNotInstalled):
            raise MissingSimulatorError(f"{env_id}: {error}") from error
        if isinstance(error, gymnasium.error.Error):
            raise ValueError(f"{env_id}: gymnasium cannot make it ({error})") from error
        raise


def _exists(spec: Any) -> bool:
    """Whether an entry of gymnasium's registry is real: its old MuJoCo ids only raise."""
    return not getattr(spec.entry_point, "__name__", "").startswith("_raise")


def _nearest(name: str) -> str:
    """The names that are most like ``name``, whatever their case, as text for a message."""
    gymnasium = require("gymnasium")
    registered = [str(env_id) for env_id, spec in gymnasium.registry.items() if _exists(spec)]
    ours = [env_id for limits, _ in _FAMILIES for env_id in limits]
    names = [*ours, *data_set_names(), *registered, *dmc.env_ids()]
    return ", ".join(close_names(name, names, most=4)) or "none"

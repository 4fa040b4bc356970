"""What an environment gives is checked where it is taken: numbers that are finite, in their shape.

A NaN that is stored spoils everything that is computed from it, and shows long after it came in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import gymnasium

_LARGEST = float(np.finfo(np.float32).max)


class EnvironmentFaultError(ValueError):
    """An environment gave something that is no observation, reward or flag; the message names the
    environment, when, and what it gave."""


def checked_step(
    env: gymnasium.Env[Any, Any], given: tuple[Any, ...], when: str
) -> tuple[NDArray[np.float32], float, bool, bool]:
    """What ``env.step`` gave: observation ``[O]``, reward, terminated, truncated.

    Args:
        env: from ``make_env``.
        given: by its ``step``; a reward or a flag may also be an array of one number.
        when: for the message, such as ``step 60``.

    Raises:
        EnvironmentFaultError: a reward or an observation that is not finite as float32, or anything
            that is not of its shape and kind.
    """
    observation, reward, terminated, truncated = given[:4]
    seen = checked_observation(env, observation, when)
    flags = [_one_number(env, flag, name, when) for name, flag in
             (("terminated", terminated), ("truncated", truncated))]  # fmt: skip
    number = _one_number(env, reward, "reward", when)
    if not abs(number) <= _LARGEST:
        raise _fault(env, when, f"a reward that is not finite as float32: {number}")
    return seen, number, bool(flags[0]), bool(flags[1])


def checked_observation(
    env: gymnasium.Env[Any, Any], observation: Any, when: str
) -> NDArray[np.float32]:
    """The observation ``[O]`` that ``env.step`` or ``env.reset`` gave.

    Raises:
        EnvironmentFaultError: as :func:`checked_step`.
    """
    seen = np.asarray(observation)
    if seen.shape != env.observation_space.shape or seen.dtype.kind != "f":
        expected = list(env.observation_space.shape or ())
        raise _fault(
            env, when, f"a {seen.dtype} observation of shape {list(seen.shape)}, expected numbers "
            f"of shape {expected}"
        )  # fmt: skip
    if (bad := np.flatnonzero(~np.isfinite(seen))).size:
        raise _fault(
            env, when, f"an observation that is not finite as float32: its number {bad[0]} is "
            f"{seen[bad[0]]}"
        )  # fmt: skip
    return seen


def _one_number(env: gymnasium.Env[Any, Any], value: Any, name: str, when: str) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiub":
        shape = f" of shape {list(array.shape)}" if array.ndim else f" {value!r:.60}"
        raise _fault(env, when, f"for '{name}' a {type(value).__name__}{shape}, expected a number")
    return float(array.reshape(()))


def _fault(env: gymnasium.Env[Any, Any], when: str, what: str) -> EnvironmentFaultError:
    name = env.spec.id if env.spec else str(env)
    return EnvironmentFaultError(f"{name}: at {when} the environment gave {what}")

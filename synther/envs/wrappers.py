"""Wrappers give every environment flat float32 observations and actions in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synther.action_bounds import (
    NOTHING_DISCRETE,
    ActionBounds,
    DiscreteActionsError,
    UnusableSpaceError,
)
from synther.envs.simulators import require
from synther.files.float32 import lost_columns, to_float32

if TYPE_CHECKING:
    import gymnasium


def standardise(
    env: gymnasium.Env[Any, Any], observation_order: Sequence[str] | None = None
) -> gymnasium.Env[Any, Any]:
    """Actions rescaled to [-1, 1], observations flattened, actions clipped, in this order.

    Args:
        env: a ``Box`` action space with finite bounds; ``Box`` observations, or a dict of them.
        observation_order: the keys of dict observations in the order to flatten them in; the order
            of the space (which gymnasium sorts) by default.

    Returns:
        The environment with observations ``[O]`` float32 and actions ``[A]`` in a finite [-1, 1].

    Raises:
        UnusableSpaceError: an action or observation space that SynthER has no use for.
    """
    return clip_actions(flatten_observations(rescale_actions(env), observation_order))


def rescale_actions(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Actions in [-1, 1] become the environment's own range, in the type of its space.

    gymnasium's ``RescaleAction`` computes in the precision of the action that comes in; the
    DeepMind Control tasks take float64, and the difference grows to 1e-2 in 50 steps of walker.
    A space of whole numbers gets the nearest one.

    Raises:
        DiscreteActionsError: one of ``Discrete`` and its kin.
        UnusableSpaceError: another space without finite bounds.
    """
    spaces = require("gymnasium.spaces")
    space, box = env.action_space, spaces.Box
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        name = env.spec.id if env.spec else str(env)
        raise DiscreteActionsError(f"{name} has the action space {space}: {NOTHING_DISCRETE}")
    if not (
        isinstance(space, box)
        and len(space.shape) == 1
        and np.isfinite(space.low).all()
        and np.isfinite(space.high).all()
    ):
        raise UnusableSpaceError(
            f"{env} has the action space {space}; expected a vector with finite bounds (Box)"
        )
    unit = box(-1.0, 1.0, space.shape, np.float32)
    scaled = require("gymnasium.wrappers").TransformAction(env, _rescaling(space), unit)
    scaled.own_action_space = space
    return scaled


def own_action_space(env: gymnasium.Env[Any, Any]) -> Any:
    """The action space, a finite ``Box``, that an environment of :func:`standardise` has itself."""
    return env.get_wrapper_attr("own_action_space")


def in_action_units(env: gymnasium.Env[Any, Any], bounds: ActionBounds) -> gymnasium.Env[Any, Any]:
    """An environment of ``make_env`` that takes actions between these bounds for the whole of its
    range, in place of -1 and 1: such as the bounds of a data set, to play its actions."""
    space = require("gymnasium.spaces").Box(bounds.low, bounds.high, dtype=np.float32)
    return require("gymnasium.wrappers").TransformAction(env, bounds.to_unit, space)


def _rescaling(space: Any) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Actions in [-1, 1] -> actions of ``space``, a ``Box`` of finite bounds."""
    low, high = space.low, space.high
    whole = low.dtype.kind in "iub"
    if not whole and (low == -1).all() and (high == 1).all():
        return np.asarray  # exact as it is: spare the arithmetic
    ends = low.astype(np.float64), high.astype(np.float64)
    with np.errstate(over="ignore"):
        wide = not whole and not np.isfinite(high - low).all()

    def between(action: NDArray[Any]) -> NDArray[np.float64]:
        share = (np.asarray(action, np.float64) + 1) / 2
        blend: NDArray[np.float64] = (1 - share) * ends[0] + share * ends[1]
        return blend

    def to_whole(action: NDArray[Any]) -> NDArray[Any]:
        value = np.rint(between(action))
        # The ends themselves, which float64 may round to what the type does not hold.
        inside = np.where((value <= ends[0]) | (value >= ends[1]), 0, value).astype(low.dtype)
        return np.where(value <= ends[0], low, np.where(value >= ends[1], high, inside))

    def rescale(action: NDArray[Any]) -> NDArray[Any]:
        return low + (high - low) * ((np.asarray(action, dtype=low.dtype) + 1) / 2)

    if whole:
        return to_whole
    # A span that leaves the type would make NaN of 0 times infinity.
    return (lambda action: between(action).astype(low.dtype)) if wide else rescale


def flatten_observations(
    env: gymnasium.Env[Any, Any], order: Sequence[str] | None = None
) -> gymnasium.Env[Any, Any]:
    """Observations become one float32 vector, dict observations in the given order of keys."""
    spaces = require("gymnasium.spaces")
    space = env.observation_space
    if isinstance(space, spaces.Dict):
        keys = list(space.spaces) if order is None else list(order)
        boxes = [space.spaces[key] for key in keys]
    else:
        keys, boxes = [], [space]
    if not all(isinstance(part, spaces.Box) for part in boxes):
        raise UnusableSpaceError(
            f"{env} has the observation space {space}; expected a Box or a dict of them"
        )
    size = sum(int(np.prod(part.shape)) for part in boxes)
    check = _PrecisionCheck(env.spec.id if env.spec else str(env))

    def flatten(observation: Any) -> NDArray[np.float32]:
        if keys:
            observation = np.concatenate([np.ravel(observation[key]) for key in keys])
        whole = np.asarray(observation).reshape(-1)
        check(whole)
        with np.errstate(over="ignore"):  # whoever takes it looks for what is not finite
            return whole.astype(np.float32)

    flat = spaces.Box(-np.inf, np.inf, (size,), np.float32)
    return require("gymnasium.wrappers").TransformObservation(env, flatten, flat)


class _PrecisionCheck:
    """Looks at an environment's first observations, and warns once where float32 loses some."""

    COUNT = 200
    warned: ClassVar[set[str]] = set()

    def __init__(self, env_id: str) -> None:
        self.env_id = env_id
        self._seen: list[NDArray[Any]] = []

    def __call__(self, observation: NDArray[Any]) -> None:
        if len(self._seen) == self.COUNT:
            return
        self._seen.append(observation.copy())
        if len(self._seen) == self.COUNT and self.env_id not in self.warned:
            first = np.stack(self._seen)
            if lost_columns(first):
                self.warned.add(self.env_id)  # an evaluation has many environments of a kind
                to_float32(first, "observations", self.env_id)


def clip_actions(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Clip actions to the action space, which stays finite (gymnasium's becomes infinite)."""
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    return require("gymnasium.wrappers").TransformAction(
        env, lambda action: np.clip(action, low, high), env.action_space
    )

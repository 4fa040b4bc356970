"""An environment's name says between which bounds its own actions lie."""

from __future__ import annotations

import contextlib
from functools import lru_cache

from synther.action_bounds import ActionBounds, DiscreteActionsError
from synther.envs import antmaze, legacy, locomotion, maze2d
from synther.envs.names import env_id_of
from synther.envs.randomness import put_back_shared, take_shared
from synther.envs.registry import make_env
from synther.envs.wrappers import own_action_space

# D4RL's, for whose data sets no simulator has to be there.
_UNIT = {*locomotion.MAX_EPISODE_STEPS, *maze2d.MAX_EPISODE_STEPS, *antmaze.MAX_EPISODE_STEPS}
_UNIT -= {"Humanoid-v2"}  # [-0.4, 0.4]
_LARGEST = 1e6
"""Bounds beyond it, such as the 1e10 of dm_control's lqr, stand for none."""


def environment_bounds(name: str, action_dim: int) -> ActionBounds | None:
    """The bounds of an environment's own action space, which ``make_env`` maps [-1, 1] to.

    The environment is made for it, where it is not one of D4RL's; the random numbers that it draws
    are put back.

    Args:
        name: as ``make_env`` has it.
        action_dim: the columns of the actions in question.

    Returns:
        None where they cannot be known: no such environment, a simulator that is not installed, a
        space without bounds, or one of other columns.

    Raises:
        DiscreteActionsError: its actions are discrete.
    """
    env_id = env_id_of(name)
    if env_id in _UNIT:
        return ActionBounds.unit(action_dim)
    found = _bounds_of(env_id, legacy.backend())
    return found if found is not None and len(found.low) == action_dim else None


@lru_cache(maxsize=64)
def _bounds_of(env_id: str, backend: str) -> ActionBounds | None:
    """``backend`` is here for the cache: what a name stands for depends on it."""
    drawn = take_shared(None)
    try:
        with contextlib.closing(make_env(env_id)) as env:
            space = own_action_space(env)
    except DiscreteActionsError:
        raise
    except Exception:  # whatever its own code raises: nothing is known, and who needs it will say
        return None
    finally:
        put_back_shared(None, drawn)
    try:
        bounds = ActionBounds.of(space.low, space.high, len(space.low))
    except ValueError:
        return None
    return bounds if max(abs(bounds.low).max(), abs(bounds.high).max()) <= _LARGEST else None

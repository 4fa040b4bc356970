"""The units of a data set's actions are found here: stated, the environment's, or unknown.

Rows keep the units that they were recorded in. What is known of these are the lowest and the
highest action, in the metadata (:attr:`synther.transitions.Transitions.action_bounds`); agents,
which act in [-1, 1], and the simulator are handed actions that were mapped from them.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from synther.action_bounds import ActionBounds, DiscreteActionsError
from synther.envs.action_spaces import environment_bounds
from synther.transitions import TransitionError, Transitions

FAR_SHARE = 0.01
"""Of the rows that may lie far outside the range of an environment."""
REACHED = 0.95
"""Actions that were scaled to [-1, 1] come this near to an end of it, most often."""
_SAY = (
    "say otherwise with action_low and action_high (flags of the commands, or entries of the file "
    "or of its metadata)"
)


class ActionUnitsWarning(UserWarning):
    """What was assumed of the units of actions, and how to say otherwise."""


def with_action_bounds(
    transitions: Transitions,
    *,
    env_id: str | None = None,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
) -> Transitions:
    """The same rows, with the bounds of their actions in the metadata, where these can be known.

    In this order: those given here; those that the metadata state; the own action space of the
    environment. Rows that lie beyond the space, but in [-1, 1], are in the units of ``make_env``,
    and so are those that reach the ends of [-1, 1], but not beyond, in a wider space; a warning
    says so.

    Args:
        transitions: the rows.
        env_id: the environment, where the metadata name none.
        low, high: a number, or one a column; both or none.

    Raises:
        TransitionError: no such bounds, rows far outside the environment's, or an environment of
            discrete actions.
    """
    source, columns = transitions.source, transitions.action_dim
    try:
        given = ActionBounds.stated({"action_low": low, "action_high": high}, columns)
    except ValueError as error:
        raise TransitionError(f"{source}: {error}") from None
    bounds = given or transitions.action_bounds
    if bounds is not None:
        _say_outside(transitions, bounds, "the bounds that were stated for them")
    for name in (transitions.metadata.get("env_id"), env_id):
        if bounds is None and name:
            try:
                space = environment_bounds(name, columns)
            except DiscreteActionsError as error:
                raise TransitionError(f"{source}: the environment {name}: {error}") from None
            bounds = space and _in_units_of(transitions, space, name)
    if bounds is None:
        return transitions
    return replace(transitions, metadata={**transitions.metadata, **bounds.to_plain()})


def sample_bounds(transitions: Transitions, *more: Transitions, warn: bool = False) -> ActionBounds:
    """Between which bounds samples of a model of these rows are kept: the known ones, else [-1, 1],
    and the range of the data in the columns that leave it, which ``warn`` says. ``more`` are
    further parts of the same data."""
    if (known := transitions.action_bounds) is not None:
        return known
    parts = [part.actions for part in (transitions, *more)]
    low = np.min([part.min(axis=0) for part in parts], axis=0)
    high = np.max([part.max(axis=0) for part in parts], axis=0)
    inside = (low >= -1) & (high <= 1)
    found = ActionBounds(
        np.where(inside, np.float32(-1), low), np.where(inside, np.float32(1), high)
    )
    if warn and not inside.all():
        warnings.warn(
            f"{transitions.source}: nothing says between which bounds the actions lie, and they "
            f"leave [-1, 1]; samples keep to the data's own range, {found}; {_SAY}",
            ActionUnitsWarning,
            stacklevel=2,
        )
    return found


def in_action_bounds(transitions: Transitions, low: ArrayLike, high: ArrayLike) -> Transitions:
    """The rows with their actions mapped to other bounds, such as -1 and 1, or those of an
    environment; the metadata say so.

    Raises:
        TransitionError: the bounds of the rows are not known, or these are none.
    """
    known = transitions.action_bounds
    if known is None:
        raise TransitionError(
            f"{transitions.source}: the bounds of its actions are not known; {_SAY}"
        )
    try:
        wanted = ActionBounds.of(low, high, transitions.action_dim)
    except ValueError as error:
        raise TransitionError(f"{transitions.source}: {error}") from None
    described = {**transitions.metadata, **wanted.to_plain()}
    mapped = known.map(transitions.actions, wanted)
    return replace(transitions, actions=mapped, metadata=described)


def _in_units_of(transitions: Transitions, space: ActionBounds, env_id: str) -> ActionBounds:
    """The bounds of rows recorded in an environment with this action space: itself, or [-1, 1]."""
    actions, unit = transitions.actions, ActionBounds.unit(transitions.action_dim)
    fits_space, fits_unit = (not each.outside(actions).any() for each in (space, unit))
    if not fits_space and not fits_unit:
        _require_near(transitions, space, env_id)
        _say_outside(transitions, space, f"the action space of {env_id}")
        return space
    wider = np.stack([space.low < -1, space.high > 1])
    if not fits_unit or not (wider.any() or not fits_space):
        return space
    ends = np.stack([-actions.min(axis=0), actions.max(axis=0)])
    scaled = not fits_space or bool((ends[wider] >= REACHED).any())
    found = unit if scaled else space
    taken = "for actions in [-1, 1] that stand for it" if scaled else "for actions in its units"
    warnings.warn(
        f"{transitions.source}: the actions lie in [-1, 1], those of {env_id} in {space}; they are "
        f"taken {taken}; {_SAY}",
        ActionUnitsWarning,
        stacklevel=3,
    )
    return found


def _require_near(transitions: Transitions, space: ActionBounds, env_id: str) -> None:
    far = np.flatnonzero(space.outside(transitions.actions, widened=1.0))
    if len(far) > FAR_SHARE * len(transitions):
        raise TransitionError(
            f"{transitions.source}: in {len(far)} of {len(transitions)} rows 'actions' lie far "
            f"outside those of {env_id}, {space}; first in row {far[0]}: "
            f"{transitions.actions[far[0]]}; if they are in other units, {_SAY}"
        )


def _say_outside(transitions: Transitions, bounds: ActionBounds, whose: str) -> None:
    rows = np.flatnonzero(bounds.outside(transitions.actions))
    if len(rows):
        warnings.warn(
            f"{transitions.source}: in {len(rows)} of {len(transitions)} rows 'actions' lie "
            f"outside {whose}, {bounds}, first in row {rows[0]}: {transitions.actions[rows[0]]}; "
            f"samples are kept inside; {_SAY}",
            ActionUnitsWarning,
            stacklevel=3,
        )

"""Transitions are cut into episodes, for their returns and for libraries that know no rows."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from synther.transitions import TransitionError, Transitions

BROKEN_SHARE = 1 / 3
"""Of the rows that are no terminals, the share that the next row does not continue beyond which the
rows do not lie in the order of their episodes."""
FEW_BREAKS = 10
"""Fewer rows than this that the next one does not continue say nothing of why."""
SAME_LENGTH = 1 / 2
"""Of the episodes that a time limit cut off, at least this share has one and the same length."""


def episode_ends(transitions: Transitions) -> NDArray[np.bool_]:
    """``[N]``, whether the row is the last of an episode.

    An episode ends at a terminal, at a row of ``timeouts`` where they are known, and wherever the
    next row does not start with the very observation that the row ended with. Real rows in their
    order so become the episodes that they were cut from; a synthetic row, which nothing follows,
    becomes an episode of one step.
    """
    continued = (transitions.next_observations[:-1] == transitions.observations[1:]).all(axis=1)
    ends = np.ones(len(transitions), np.bool_)
    ends[:-1] = (transitions.terminals[:-1] > 0) | ~continued
    return ends if transitions.timeouts is None else ends | transitions.timeouts


def known_ends(transitions: Transitions, max_episode_steps: int | None = None) -> NDArray[np.bool_]:
    """:func:`episode_ends` of rows that lie in the order of their episodes.

    The arguments and errors are those of :func:`episode_returns`.
    """
    ends = episode_ends(transitions)
    going_on = transitions.terminals[:-1] == 0
    broken = _broken_off(transitions, ends)
    synthetic = transitions.metadata.get("source") == "SynthER"
    if synthetic or broken.sum() > BROKEN_SHARE * max(1, going_on.sum()):
        what = "they are synthetic" if synthetic else f"{broken.sum()} break off"
        raise TransitionError(
            f"{transitions.source}: the {len(transitions)} rows do not lie in the order of their "
            f"episodes ({what}), so the returns of these cannot be known"
        )
    stops = np.flatnonzero(ends) + 1
    lengths = np.diff(stops, prepend=0)
    longest = lengths.max(initial=0)
    if transitions.timeouts is None and max_episode_steps and longest > max_episode_steps:
        start = (stops - lengths)[lengths.argmax()]
        raise TransitionError(
            f"{transitions.source}: from row {start} on {longest} rows continue each other, but an "
            f"episode has at most {max_episode_steps} steps, so where episodes were cut off cannot "
            "be known; add an array 'timeouts' [N], 1 at the last row of each episode that was"
        )
    return ends


def warn_of_gaps(transitions: Transitions, ends: NDArray[np.bool_]) -> None:
    """Warn where rows of the episodes seem to be missing, and with them their rewards. Of episodes
    that a time limit cut off most have its length, and a gap lies anywhere.

    Args:
        transitions: rows in the order of their episodes.
        ends: of these, as :func:`known_ends` gives them.
    """
    stops = np.flatnonzero(ends)
    lengths = np.diff(stops, prepend=-1)[_broken_off(transitions, ends)[stops]]
    counts = np.unique(lengths, return_counts=True)[1]
    one_limit = counts.max(initial=0) >= SAME_LENGTH * len(lengths)
    if len(lengths) < FEW_BREAKS or one_limit:
        return
    warnings.warn(
        f"{transitions.source}: {len(lengths)} of the {len(transitions)} rows break off: they are "
        "neither terminals nor known time-outs, the next row does not continue them, and no "
        "time limit cuts episodes at such lengths. If rows are missing there, returns end too "
        "early: give all rows of the episodes. If episodes were cut off there, add an array "
        "'timeouts' [N], 1 at these rows",
        stacklevel=3,
    )


def episode_returns(
    transitions: Transitions, max_episode_steps: int | None = None
) -> NDArray[np.float64]:
    """Undiscounted returns of the whole episodes, in their order.

    The rows that the data end with count where they end in a terminal or a time-out, or are as many
    as the longest episode that was cut off: otherwise the episode was still under way.

    Args:
        transitions: rows in the order in which they were recorded.
        max_episode_steps: the time limit of their environment, where it is known.

    Raises:
        TransitionError: where episodes end cannot be known, since rows do not lie in their order,
            are synthetic, or go on for longer than the limit and no ``timeouts`` say where one
            ended.

    Warns:
        UserWarning: rows of the episodes seem to be missing, and with them their rewards.
    """
    ends = known_ends(transitions, max_episode_steps)
    warn_of_gaps(transitions, ends)
    stops = np.flatnonzero(ends) + 1
    lengths = np.diff(stops, prepend=0)
    totals = np.concatenate([[0.0], np.cumsum(transitions.rewards, dtype=np.float64)])
    returns = np.diff(totals[np.concatenate([[0], stops])])
    return returns if _last_is_whole(transitions, stops, lengths) else returns[:-1]


def _broken_off(transitions: Transitions, ends: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``[N]``, whether the next row does not continue the row, which is neither a terminal nor a
    time-out that is known."""
    broken = ends & (transitions.terminals == 0)
    broken[-1:] = False  # nothing follows the last row
    return broken if transitions.timeouts is None else broken & ~transitions.timeouts


def _last_is_whole(
    transitions: Transitions, stops: NDArray[np.intp], lengths: NDArray[np.intp]
) -> bool:
    if not len(stops):
        return True
    if transitions.terminals[-1] or (transitions.timeouts is not None and transitions.timeouts[-1]):
        return True
    cut_off = transitions.terminals[stops[:-1] - 1] == 0
    return bool(lengths[-1] == lengths[:-1][cut_off].max(initial=0))

"""The rows of a D4RL file become transitions as d4rl's ``qlearning_dataset`` makes them.

What d4rl 1.1 does, row by row: the next observation is the following row's observation, whatever
episode that row belongs to; the last row of the file is dropped; a row that is a time-out is
dropped, unless ``terminate_on_end``, which keeps it with its terminal flag as it is (despite d4rl's
docstring, which says that the flag is set). A file without ``timeouts`` is cut by a count of the
environment's ``max_episode_steps``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.datasets.files import EpisodeRows, require_finite
from synther.transitions import TransitionError, Transitions

IntArray = NDArray[np.intp]


def to_transitions(
    rows: EpisodeRows,
    *,
    terminate_on_end: bool = False,
    d4rl_exact: bool = False,
    max_episode_steps: int | None = None,
) -> Transitions:
    """Pair the rows of a D4RL file into transitions.

    The same transitions as d4rl 1.1, in the same order, but for three repairs, all undone by
    ``d4rl_exact=True``:

    - Where the file has ``next_observations``, rows that end an episode take theirs from it. d4rl
      gives them the first observation of the next episode, and a diffusion model would learn that
      jump.
    - Time-outs kept by ``terminate_on_end`` are refused where the file cannot say what followed.
    - The count that stands in for missing ``timeouts`` starts at 0 in each episode. d4rl's starts
      at 1 after a terminal, and so drifts off the real boundaries.

    Args:
        rows: what ``read_hdf5`` returned.
        terminate_on_end: keep time-outs; their terminal flag stays 0.
        d4rl_exact: reproduce d4rl to the bit.
        max_episode_steps: the time limit, used only where the file has no ``timeouts``.

    Raises:
        TransitionError: ``timeouts`` and ``max_episode_steps`` are both missing, a needed
            ``next_observations`` is missing or not finite, or nothing is left.
    """
    timeouts = rows.timeouts
    if timeouts is None:
        timeouts = _counted_timeouts(rows, max_episode_steps, terminate_on_end, d4rl_exact)
    keep = np.ones(len(rows) - 1, np.bool_) if terminate_on_end else ~timeouts[:-1]
    index = np.flatnonzero(keep)
    if not index.size:
        raise TransitionError(
            f"{rows.source}: no transition is left of {len(rows)} rows, for each of them is a "
            "time-out; check 'timeouts'"
        )
    next_observations = rows.observations[index + 1]
    if not d4rl_exact:
        _repair_episode_ends(next_observations, rows, index, timeouts)
    return Transitions(
        observations=rows.observations[index],
        actions=rows.actions[index],
        rewards=rows.rewards[index],
        next_observations=next_observations,
        terminals=rows.terminals[index].astype(np.float32),
        metadata={**rows.metadata, "terminate_on_end": terminate_on_end, "d4rl_exact": d4rl_exact},
        source=rows.source,
    )


def _repair_episode_ends(
    next_observations: NDArray[Any], rows: EpisodeRows, index: IntArray, timeouts: NDArray[np.bool_]
) -> None:
    """Overwrite, in place, what d4rl takes from the next episode by the file's own record."""
    ends = np.flatnonzero(rows.terminals[index] | timeouts[index])
    if rows.next_observations is not None:
        recorded = rows.next_observations[index[ends]]
        require_finite(recorded, "next_observations", rows.source, index[ends])
        next_observations[ends] = recorded
    elif timeouts[index].any():
        raise TransitionError(
            f"{rows.source}: terminate_on_end keeps the time-out in row "
            f"{index[timeouts[index]][0]}, but without 'next_observations' the file does not say "
            "what followed it; leave terminate_on_end off, or pass d4rl_exact=True to take the "
            "first observation of the next episode as d4rl does"
        )


def _counted_timeouts(
    rows: EpisodeRows, max_episode_steps: int | None, terminate_on_end: bool, d4rl_exact: bool
) -> NDArray[np.bool_]:
    """Time-outs of a file that records none: every ``max_episode_steps``-th step of an episode."""
    if max_episode_steps is None:
        raise TransitionError(
            f"{rows.source}: has no 'timeouts', so where episodes were cut off is unknown; pass "
            "max_episode_steps (the environment's time limit), or add a 'timeouts' array"
        )
    timeouts = np.zeros(len(rows), np.bool_)
    step = 0
    # A loop, because each episode's start depends on the last one's end: 0.1 s for a million rows.
    for row, terminal in enumerate(rows.terminals.tolist()):
        timeouts[row] = step == max_episode_steps - 1
        if terminal or timeouts[row]:
            kept = terminate_on_end or not timeouts[row]
            step = int(d4rl_exact and kept)  # d4rl adds 1 after the reset, on each row it keeps
        else:
            step += 1
    return timeouts

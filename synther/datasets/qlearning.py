"""The rows of a D4RL file become transitions, like those of d4rl's ``qlearning_dataset`` or better.

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
    """Turn the rows of a D4RL file into transitions.

    The same transitions as d4rl 1.1, in the same order, but for these repairs, all undone by
    ``d4rl_exact=True``:

    - Where the file has ``next_observations``, every row takes its own. d4rl takes the following
      row's observation, which belongs to another episode at an end that nobody marked, and to
      anything at all in a file that holds a selection of rows. The last row is then kept, too.
    - A row that is a terminal and a time-out is a terminal, and is kept. d4rl drops it, and with it
      all terminals of an environment that flags both at once.
    - A terminal in the last row is kept. Without ``next_observations`` its own observation stands
      for the one that followed: no target of an agent ever looks at it.
    - Time-outs kept by ``terminate_on_end`` are refused where the file cannot say what followed.
    - The count that stands in for missing ``timeouts`` starts at 0 in each episode. d4rl's starts
      at 1 after a terminal, and so drifts off the real boundaries.

    Args:
        rows: what ``read_hdf5`` returned.
        terminate_on_end: keep time-outs; their terminal flag stays 0.
        d4rl_exact: reproduce d4rl to the bit.
        max_episode_steps: the time limit, used only where the file has no ``timeouts``.

    Raises:
        TransitionError: nothing in the file or in ``max_episode_steps`` says where episodes were
            cut off, a needed ``next_observations`` is missing or not finite, or nothing is left.
    """
    timeouts = rows.timeouts
    known = timeouts is not None or max_episode_steps is not None
    if timeouts is None:
        timeouts = _counted_timeouts(rows, max_episode_steps, terminate_on_end, d4rl_exact)
    cut_off = timeouts if d4rl_exact else timeouts & ~rows.terminals
    keep = np.ones(len(rows), np.bool_) if terminate_on_end else ~cut_off
    if d4rl_exact or rows.next_observations is None:
        keep[-1] &= rows.terminals[-1] and not d4rl_exact
    index = np.flatnonzero(keep)
    if not index.size:
        raise TransitionError(
            f"{rows.source}: no transition is left of {len(rows)} rows, for each of them is a "
            "time-out; check 'timeouts'"
        )
    return Transitions(
        observations=rows.observations[index],
        actions=rows.actions[index],
        rewards=rows.rewards[index],
        next_observations=_successors(rows, index, cut_off, d4rl_exact),
        terminals=rows.terminals[index].astype(np.float32),
        metadata={**rows.metadata, "terminate_on_end": terminate_on_end, "d4rl_exact": d4rl_exact},
        source=rows.source,
        timeouts=_ends(index, cut_off) if known else None,
    )


def _ends(index: IntArray, cut_off: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the episode of each row at ``index`` was cut off after it: the time-out itself where
    it is kept, the row before it where it is not."""
    left_out = np.ones(len(cut_off) + 1, np.bool_)
    left_out[index] = left_out[-1] = False
    return cut_off[index] | left_out[index + 1]


def _successors(
    rows: EpisodeRows, index: IntArray, cut_off: NDArray[np.bool_], d4rl_exact: bool
) -> NDArray[Any]:
    """What followed the rows at ``index``, ``[len(index), O]``."""
    if rows.next_observations is not None and not d4rl_exact:
        recorded = rows.next_observations[index]
        require_finite(recorded, "next_observations", rows.source, index)
        return recorded
    if cut_off[index].any() and not d4rl_exact:
        raise TransitionError(
            f"{rows.source}: terminate_on_end keeps the time-out in row "
            f"{index[cut_off[index]][0]}, but without 'next_observations' the file does not say "
            "what followed it; leave terminate_on_end off, or add 'next_observations' to the file "
            "(d4rl_exact=True takes the first observation of the next episode, which is wrong)"
        )
    return rows.observations[np.minimum(index + 1, len(rows) - 1)]


def _counted_timeouts(
    rows: EpisodeRows, max_episode_steps: int | None, terminate_on_end: bool, d4rl_exact: bool
) -> NDArray[np.bool_]:
    """Time-outs of a file that records none: every ``max_episode_steps``-th step of an episode."""
    timeouts = np.zeros(len(rows), np.bool_)
    if max_episode_steps is None:
        if rows.next_observations is not None and not d4rl_exact:
            return timeouts  # nobody needs them: the file says what followed each row
        raise TransitionError(
            f"{rows.source}: has neither 'timeouts' nor 'next_observations', so which row follows "
            "which is unknown where an episode was cut off. Add one of the two (time-outs have to "
            "be 1 at each row after which an episode was cut off), or cut the file by the "
            f"environment's time limit, N steps, and use the result: load_dataset('{rows.source}', "
            "max_episode_steps=N).save('cut.npz')"
        )
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

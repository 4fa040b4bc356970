"""Transitions are cut into episodes for libraries that know nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synther.transitions import Transitions


def episode_ends(transitions: Transitions) -> NDArray[np.bool_]:
    """``[N]``, whether the row is the last of an episode.

    A row is followed by the next one where it is no terminal and the next one starts with the very
    observation that it ended with. Real rows in their order so become the episodes that they were
    cut from; a synthetic row, which nothing follows, becomes an episode of one step.
    """
    continued = (transitions.next_observations[:-1] == transitions.observations[1:]).all(axis=1)
    ends = np.ones(len(transitions), np.bool_)
    ends[:-1] = (transitions.terminals[:-1] > 0) | ~continued
    return ends

"""``Transitions`` are the one currency that files, buffers, generators and environments exchange.

*Terminal* means that the episode truly ended. A time-out is never a terminal, and its
``next_observation`` is the real next observation, not the first one of the following episode.
Actions are in the units that they were recorded in; ``action_low`` and ``action_high`` in the
metadata say which.

``arrays.py`` has the five arrays, ``checks.py`` what each of them has to be, ``layout.py`` the same
transitions as rows of one array, and ``text.py`` what a person is told of them.
"""

from synther.files.float32 import FloatArray
from synther.transitions.arrays import Transitions
from synther.transitions.checks import FIELDS, TransitionError, require_continuous
from synther.transitions.layout import RowsT, TransitionLayout

__all__ = [
    "FIELDS",
    "FloatArray",
    "RowsT",
    "TransitionError",
    "TransitionLayout",
    "Transitions",
    "require_continuous",
]

"""Whether a column is one of few values: the model space, the regressions and the verdict agree.

Samples have such a column as one of the values seen, by the map of model space; regressions would
make fractions of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.diffusion.norm.column_kinds import Column, kind_of
from synther.diffusion.norm.transition_space import NUM_KNOTS


def has_few_values(column: NDArray[Any]) -> bool:
    """Whether ``[N]`` is discrete in model space; a constant is not."""
    return kind_of(Column.of(np.asarray(column, np.float32)), NUM_KNOTS) == "discrete"

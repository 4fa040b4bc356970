"""An array of transitions is numbers of a known shape, or the error says what it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synther.action_bounds import NOTHING_DISCRETE
from synther.files.float32 import FloatArray, to_float32

FIELDS = ("observations", "actions", "rewards", "next_observations", "terminals")
_MATRICES = ("observations", "actions", "next_observations")


class TransitionError(ValueError):
    """Data that cannot be transitions; the message names source, field and first bad row."""


def as_float32(values: ArrayLike, name: str, source: str) -> FloatArray:
    """The array of the field ``name`` as it is stored, float32 ``[rows, columns]`` or ``[rows]``.

    Raises:
        TransitionError: a wrong shape or type, or discrete actions.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TransitionError(
            f"{source}: '{name}' has type {array.dtype}, expected numbers (float32)"
        )
    if name == "actions" and array.size:
        require_continuous(array, source)
    if name in _MATRICES:
        if array.ndim != 2 or array.shape[1] == 0:
            raise TransitionError(
                f"{source}: '{name}' has shape {array.shape}, expected [rows, columns] with a "
                "column or more"
            )
    else:
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise TransitionError(f"{source}: '{name}' has shape {array.shape}, expected [rows]")
    return to_float32(array, name, source)


def require_continuous(actions: NDArray[Any], source: str) -> None:
    """Refuse discrete actions, which are known by their type: whole numbers.

    Raises:
        TransitionError: they are.
    """
    if actions.dtype.kind in "iub":
        raise TransitionError(f"{source}: 'actions' has type {actions.dtype}: {NOTHING_DISCRETE}")

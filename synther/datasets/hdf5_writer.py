"""A replay is written as HDF5 in D4RL's layout, which ``load_dataset`` reads back."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.datasets.files import METADATA_ATTRIBUTE
from synther.files.atomic import atomic_write
from synther.transitions import TransitionError, Transitions


def write_hdf5(
    path: str | os.PathLike[str],
    transitions: Transitions,
    timeouts: NDArray[np.bool_],
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write the rows in their order, one a step, whole or not at all.

    Args:
        path: of the file.
        transitions: N steps, episodes one after the other.
        timeouts: ``[N]``, where an episode was cut off after the step without a terminal.
        metadata: of the file, as JSON in an attribute; besides what ``transitions`` has.

    Raises:
        TransitionError: ``timeouts`` of another length, or at a terminal.
    """
    import h5py

    if timeouts.shape != (len(transitions),):
        raise TransitionError(
            f"timeouts have shape {timeouts.shape}, expected [{len(transitions)}], one a row"
        )
    if (both := np.flatnonzero(timeouts & (transitions.terminals > 0))).size:
        raise TransitionError(f"row {both[0]} is a terminal and a time-out; an end is one of them")
    columns = dict(transitions.arrays(), timeouts=timeouts.astype(bool))
    columns["terminals"] = transitions.terminals.astype(bool)
    contents = io.BytesIO()
    with h5py.File(contents, "w") as file:
        for key, column in columns.items():
            file.create_dataset(key, data=column, compression="gzip")
        described = {**transitions.metadata, **(metadata or {})}
        file.attrs[METADATA_ATTRIBUTE] = json.dumps(described)
    with atomic_write(path) as target:
        target.write(contents.getbuffer())
    return Path(path)

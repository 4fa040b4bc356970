"""Data set files, in D4RL's HDF5 layout or ``.npz``, are checked while they are read.

An HDF5 file in D4RL's layout holds one row a step, episodes one after the other, under the keys
``observations [N, O]``, ``actions [N, A]``, ``rewards [N]``, ``terminals [N]`` and, in newer files,
``timeouts [N]`` and ``next_observations [N, O]``. ``[N, 1]`` is taken for ``[N]``. ``action_low``
and ``action_high``, a number or ``[A]``, may say which units the actions are in.

Nothing in a file is executed, and no link out of it is followed: a data set is somebody else's
file.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.action_bounds import KEYS as BOUNDS
from synther.files.float32 import to_float32
from synther.files.npz import LARGEST_COMPRESSION
from synther.transitions import FloatArray, TransitionError, require_continuous
from synther.transitions.text import mapping_hint

HDF5_SUFFIXES = (".hdf5", ".h5")
DATA_SUFFIXES = (".npz", *HDF5_SUFFIXES)
"""Of a file of transitions."""
REQUIRED_KEYS = ("observations", "actions", "rewards", "terminals")
METADATA_ATTRIBUTE = "synther_metadata"
"""The attribute in which a file that the project wrote describes itself, as JSON."""
_MATRICES = ("observations", "actions", "next_observations")
_FLAGS = ("terminals", "timeouts")
_AGAIN = "delete the file and download it again, or fetch it by hand"


def stem_of(data_set: str) -> str:
    """What a data set is called: a file by its name without the ending, another as it is."""
    return Path(data_set).stem if data_set.endswith(DATA_SUFFIXES) else data_set


@dataclass(frozen=True)
class EpisodeRows:
    """The rows of a D4RL file as they lie in it, not yet transitions.

    Attributes:
        observations: ``[N, O]`` float32.
        actions: ``[N, A]`` float32.
        rewards: ``[N]`` float32.
        terminals: ``[N]`` bool.
        timeouts: ``[N]`` bool, or None where the file has none.
        next_observations: ``[N, O]`` float32 (not yet checked to be finite), or None.
        source: the file, for error messages.
        metadata: what a file that the project wrote says of itself; of others the action bounds,
            where they are in it.
    """

    observations: FloatArray
    actions: FloatArray
    rewards: FloatArray
    terminals: NDArray[np.bool_]
    timeouts: NDArray[np.bool_] | None
    next_observations: FloatArray | None
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.observations)


def read_hdf5(path: Path) -> EpisodeRows:
    """Read and check a file in D4RL's layout.

    Raises:
        FileNotFoundError: no such file.
        TransitionError: not HDF5, truncated, a key missing or not an array of numbers, lengths that
            differ, no rows, a value that is not finite, a flag other than 0 and 1, or a key that
            links to another place or file. The message names the file, the key and the row.
    """
    source = str(path)
    _require_hdf5_signature(path)
    try:
        with open_hdf5(path) as file:
            found = list(file)
            _require_keys(found, source)
            keys = [*REQUIRED_KEYS, "timeouts", "next_observations"]
            size = path.stat().st_size
            arrays = {key: _read_key(file, key, source, size) for key in keys if key in found}
            metadata = _read_metadata(file, source)
            for key in BOUNDS:
                if key in found:
                    metadata[key] = _plain_dataset(file, key, source)[()].tolist()
    except TransitionError:
        raise
    except Exception as error:  # of a damaged file h5py raises half a dozen kinds
        what = str(error) or type(error).__name__
        raise TransitionError(
            f"{source}: HDF5, but truncated or damaged ({what}); {_AGAIN}"
        ) from error
    _check_rows(arrays, source)
    return EpisodeRows(
        **{key: arrays[key] for key in REQUIRED_KEYS},
        timeouts=arrays.get("timeouts"),
        next_observations=arrays.get("next_observations"),
        source=source,
        metadata=metadata,
    )


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file, opened for reading.

    Raises:
        TransitionError: the file is fine, but open for writing somewhere.
    """
    import h5py

    # Without a lock: data sets are read-only and often lie on file systems that cannot lock. Where
    # the file is open in this process already, HDF5 wants the setting that it was opened with.
    settings = (False, None, True, "best-effort")
    for locking in settings:
        try:
            file = h5py.File(path, "r", locking=locking)
            break
        except OSError as error:
            other_setting = "flag values don't match" in str(error)
            if other_setting and locking != settings[-1]:
                continue
            if not other_setting and "already open" not in str(error):
                raise
            raise TransitionError(
                f"{path}: is open for writing elsewhere ({error}); close it there first, with "
                "file.close(), or where its writer was killed, run h5clear -s on it"
            ) from error
    with file:
        yield file


def require_finite(
    array: FloatArray, key: str, source: str, row_numbers: NDArray[np.intp] | None = None
) -> None:
    """Raise a TransitionError that names the first row of ``array [N, ...]`` with a NaN or inf.

    ``row_numbers [N]`` are the file's, where ``array`` holds only some of its rows.
    """
    finite = np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    bad = np.flatnonzero(~finite)
    if bad.size:
        row = bad[0] if row_numbers is None else row_numbers[bad[0]]
        raise TransitionError(
            f"{source}: '{key}' is not finite (as float32) in {bad.size} of {len(array)} rows, "
            f"first in row {row}: {array[bad[0]]}; remove or repair those rows"
        )


def _require_hdf5_signature(path: Path) -> None:
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected HDF5 in D4RL's layout")
    if h5py.is_hdf5(path):
        return
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise TransitionError(f"{path}: empty file (0 bytes); {_AGAIN}")
    page = start.lstrip()[:1] == b"<"
    hint = ", but a web page, such as a server's error message" if page else ""
    raise TransitionError(f"{path}: not an HDF5 file{hint} (begins with {start[:16]!r}); {_AGAIN}")


_NEXT = "next_observations"


def _require_keys(found: list[str], source: str) -> None:
    missing = [key for key in REQUIRED_KEYS if key not in found]
    if missing:
        raise TransitionError(
            f"{source}: missing {', '.join(map(repr, missing))}; found "
            f"{', '.join(map(repr, found)) or 'nothing'}, expected D4RL's layout with "
            f"{', '.join(REQUIRED_KEYS)} (and timeouts, next_observations where known)"
            f"{mapping_hint([key for key in (*REQUIRED_KEYS, _NEXT) if key not in found], found)}"
        )


def _read_key(file: Any, key: str, source: str, file_size: int) -> NDArray[Any]:
    """One array of an open file: float32 for numbers, bool for flags."""
    dataset = _plain_dataset(file, key, source)
    shape = dataset.shape
    if dataset.dtype.kind not in "fiub":
        raise TransitionError(
            f"{source}: '{key}' has type {dataset.dtype} (objects, strings or other), expected "
            "numbers; write it again as float32"
        )
    good = len(shape or ()) == 2 and shape[1] > 0
    if key not in _MATRICES:
        good = len(shape or ()) == 1 or (good and shape[1] == 1)
    if not good:
        expected = "[rows, columns]" if key in _MATRICES else "[rows]"
        raise TransitionError(f"{source}: '{key}' has shape {shape}, expected {expected}")
    if dataset.nbytes > LARGEST_COMPRESSION * file_size:
        raise TransitionError(
            f"{source}: '{key}' declares {dataset.nbytes} bytes, more than a file of {file_size} "
            f"bytes can hold; {_AGAIN}"
        )
    try:
        values = dataset[()]
    except (OSError, MemoryError) as error:
        raise TransitionError(
            f"{source}: '{key}' cannot be read ({error}), the file is truncated or damaged; "
            f"{_AGAIN}"
        ) from error
    return _convert(values if key in _MATRICES else values.reshape(-1), key, source)


def _read_metadata(file: Any, source: str) -> dict[str, Any]:
    text = file.attrs.get(METADATA_ATTRIBUTE, "{}")
    try:
        metadata = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        metadata = error
    if not isinstance(metadata, dict):
        raise TransitionError(
            f"{source}: the attribute '{METADATA_ATTRIBUTE}' is not a JSON object ({metadata}); "
            "remove it"
        )
    return metadata


def _plain_dataset(file: Any, key: str, source: str) -> Any:
    """The data set under ``key``, refused unless its bytes lie in this very file."""
    import h5py

    link = file.get(key, getlink=True)
    if not isinstance(link, h5py.HardLink):
        target = getattr(link, "filename", None) or link.path
        raise TransitionError(
            f"{source}: '{key}' is a link to {target!r}; links are not followed, copy the data "
            "into the file"
        )
    item = file[key]
    if not isinstance(item, h5py.Dataset):
        raise TransitionError(f"{source}: '{key}' is a group, expected an array of numbers")
    if item.is_virtual or item.external:
        raise TransitionError(
            f"{source}: '{key}' keeps its data in other files; those are not followed, copy the "
            "data into the file"
        )
    return item


def _convert(values: NDArray[Any], key: str, source: str) -> NDArray[Any]:
    if key == "actions":
        require_continuous(values, source)
    if key not in _FLAGS:
        return to_float32(values, key, source)  # beyond it becomes inf, and is reported as such
    bad_rows = np.flatnonzero((values != 0) & (values != 1))
    if bad_rows.size:
        raise TransitionError(
            f"{source}: '{key}' in row {bad_rows[0]} is {values[bad_rows[0]]}, expected 0 or 1"
        )
    return values.astype(np.bool_)


def _check_rows(arrays: dict[str, NDArray[Any]], source: str) -> None:
    rows = len(arrays["observations"])
    for key, array in arrays.items():
        if len(array) != rows:
            raise TransitionError(
                f"{source}: '{key}' has {len(array)} rows, 'observations' has {rows}; every array "
                "needs one length"
            )
    if rows < 2:
        raise TransitionError(
            f"{source}: {rows} rows, expected 2 or more: a transition needs a row and the one "
            "after it"
        )
    after = arrays.get("next_observations")
    if after is not None and after.shape != arrays["observations"].shape:
        raise TransitionError(
            f"{source}: 'next_observations' has {after.shape[1]} columns, 'observations' has "
            f"{arrays['observations'].shape[1]}; they need the same number"
        )
    for key in ("observations", "actions", "rewards"):
        require_finite(arrays[key], key, source)

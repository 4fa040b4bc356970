"""The files of V-D4RL's data sets are checked while they are read; see ``vd4rl.py``.

Nothing in a file is executed, and no link out of it is followed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from synther.datasets.files import METADATA_ATTRIBUTE, open_hdf5, require_finite
from synther.files import npz
from synther.files.atomic import atomic_write
from synther.files.float32 import to_float32
from synther.transitions import TransitionError, require_continuous

KEYS = ("observation", "action", "reward", "discount", "step_type")
FIRST, MID, LAST = 0, 1, 2
WHERE = (
    "V-D4RL's files are linked from https://github.com/conglu1997/v-d4rl; or render a small set: "
    "python3 -m synther.pixels.collect --help"
)
_BLOCK = 512  # pictures decoded at a time
_AGAIN = "delete the file and fetch it again"
Images = NDArray[np.uint8]


@dataclass
class FilePart:
    """One file: its columns (``action``, ``reward``, ``discount``, and ``first``, where episodes
    begin), and its pictures ``[N, 3, H, H]``, mapped or yet to be decoded."""

    path: Path
    shape: tuple[int, ...]
    columns: dict[str, NDArray[Any]]
    mapped: Images | None
    blocks: Callable[[], Iterator[Images]]
    metadata: dict[str, Any]

    def images(self, folder: Path | None) -> Images:
        """The pictures, decoded into memory, or into a file of ``folder`` that is mapped."""
        if self.mapped is not None:
            return self.mapped
        if folder is None:
            decoded = np.empty(self.shape, np.uint8)
            at = 0
            for block in self.blocks():
                decoded[at : at + len(block)] = block
                at += len(block)
            return decoded
        stat = self.path.stat()
        identity = f"{self.path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        cached = folder / f"{self.path.stem}-{digest}.uint8"
        if not cached.is_file() or cached.stat().st_size != int(np.prod(self.shape)):
            with atomic_write(cached) as file:
                for block in self.blocks():
                    file.write(np.ascontiguousarray(block).data)
        return np.memmap(cached, np.uint8, "r", shape=self.shape)


def read_part(path: Path) -> FilePart:
    """Read and check an ``.hdf5`` or ``.npz``; its pictures are not decoded yet.

    Raises:
        FileNotFoundError: no such file.
        TransitionError: damaged, half downloaded, or not of this layout.
    """
    return _read_npz(path) if path.suffix == ".npz" else _read_hdf5(path)


def _read_hdf5(path: Path) -> FilePart:
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {WHERE}")
    if not h5py.is_hdf5(path):
        start = path.read_bytes()[:16]
        raise TransitionError(
            f"{path}: not an HDF5 file ({path.stat().st_size} bytes, begins with {start!r}); it "
            f"may be a web page, or the beginning of a download: {_AGAIN}"
        )
    try:
        with open_hdf5(path) as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise TransitionError(
                    f"{path}: missing {', '.join(missing)}; found {', '.join(file) or 'nothing'}, "
                    f"expected V-D4RL's arrays {', '.join(KEYS)}"
                )
            for key in KEYS:
                own = isinstance(file.get(key, getlink=True), h5py.HardLink)
                if not (own and isinstance(file[key], h5py.Dataset)) or file[key].external:
                    raise TransitionError(f"{path}: '{key}' is not an array of this file")
            frames = file["observation"]
            columns = {key: np.asarray(file[key]) for key in KEYS[1:]}
            shape, dtype, offset = frames.shape, frames.dtype, frames.id.get_offset()
            described = json.loads(file.attrs.get(METADATA_ATTRIBUTE, "{}"))
    except (OSError, RuntimeError, KeyError, json.JSONDecodeError) as error:
        raise _damaged(path, error) from error
    columns["first"] = _firsts(columns.pop("step_type"), path)
    _check(shape, dtype, columns, path)
    # An address in the file: the pictures lie there as they are, neither compressed nor in chunks.
    mapped = None if offset is None else np.memmap(path, np.uint8, "r", offset, shape)

    def blocks() -> Iterator[Images]:
        try:
            with open_hdf5(path) as file:
                for at in range(0, shape[0], _BLOCK):
                    yield file["observation"][at : at + _BLOCK]
        except (OSError, RuntimeError) as error:
            raise _damaged(path, error) from error

    return FilePart(path, shape, columns, mapped, blocks, described)


def _read_npz(path: Path) -> FilePart:
    try:
        arrays = npz.read(path, ("action", "reward", "discount", "is_first"))
        # A set has thousands of files, whose pictures together may not fit into memory.
        arrays |= npz.read(path, ("image",), limit=1)
        rows = npz.length(path, "image")
    except npz.NpzError as error:
        raise TransitionError(str(error)) from error
    missing = [key for key in ("image", "action", "reward", "discount") if key not in arrays]
    if missing:
        raise TransitionError(f"{path}: missing {', '.join(missing)}; expected V-D4RL's arrays")
    first = _channels_first(arrays.pop("image"))
    shape = (rows, *first.shape[1:])
    firsts = arrays.pop("is_first", np.arange(rows) == 0).astype(bool)
    columns = {**arrays, "first": firsts}
    _check(shape, first.dtype, columns, path)

    def blocks() -> Iterator[Images]:
        try:
            yield _channels_first(npz.read(path, ("image",))["image"])
        except npz.NpzError as error:
            raise TransitionError(str(error)) from error

    return FilePart(path, shape, columns, None, blocks, {})


def _channels_first(image: NDArray[Any]) -> NDArray[Any]:
    """Pictures as the other form has them; what are no pictures is refused later."""
    return rearrange(image, "n h w c -> n c h w") if image.ndim == 4 else image


def _firsts(step_type: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    """The rows at which episodes begin; each must end with a last row before the next begins."""
    wrong = np.flatnonzero(~np.isin(step_type, (FIRST, MID, LAST)))
    if wrong.size:
        row = wrong[0]
        raise TransitionError(f"{path}: 'step_type' in row {row} is {step_type[row]}, not 0, 1, 2")
    firsts = step_type == FIRST
    after_last = np.append(True, step_type[:-1] == LAST)
    if (broken := np.flatnonzero(firsts != after_last)).size:
        raise TransitionError(
            f"{path}: 'step_type' is {step_type[broken[0]]:.0f} in row {broken[0]}; an episode "
            "begins with 0, in the first row and after each 2, and nowhere else"
        )
    return np.asarray(firsts)


def _check(
    shape: tuple[int, ...], dtype: np.dtype[Any], columns: dict[str, NDArray[Any]], path: Path
) -> None:
    """Shapes, types and values; columns of numbers become float32."""
    if dtype != np.uint8 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise TransitionError(
            f"{path}: pictures are {dtype} {list(shape)}, expected uint8 [N, 3, H, H]"
        )
    for key, column in columns.items():
        if len(column) != shape[0] or column.ndim != (2 if key == "action" else 1):
            raise TransitionError(
                f"{path}: '{key}' has shape {list(column.shape)} for {shape[0]} pictures"
            )
        if key == "action":
            require_continuous(column, str(path))
        if key != "first":
            columns[key] = to_float32(column, key, str(path))
            require_finite(columns[key], key, str(path))
    if not len(columns["first"]) or not columns["first"][0]:
        raise TransitionError(f"{path}: does not begin with the first row of an episode")


def _damaged(path: Path, error: Exception) -> TransitionError:
    return TransitionError(f"{path}: HDF5, but half downloaded or damaged ({error}); {_AGAIN}")

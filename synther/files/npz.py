"""Named arrays are written to ``.npz`` files whole or not at all; reading executes no code."""

from __future__ import annotations

import contextlib
import json
import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from synther.files.atomic import atomic_write

LARGEST_COMPRESSION = 1100
"""Deflate cannot shrink data more than about 1032 times: a file that declares more is lying."""


class NpzError(ValueError):
    """A file that is not a readable ``.npz`` of numbers; the message names the file."""


def write(
    path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], *, compress: bool = False
) -> Path:
    """Write ``arrays``; a crash leaves the old file or the new one, never a part."""
    with atomic_write(path) as file:
        (np.savez_compressed if compress else np.savez)(file, **arrays)  # type: ignore[arg-type]
    return Path(path)


def read(
    path: str | os.PathLike[str], names: Iterable[str], *, limit: int | None = None
) -> dict[str, NDArray[Any]]:
    """The arrays of ``names`` that the file has, whole or their first ``limit`` rows.

    Of an uncompressed file no more than those rows is read from the disk.

    Raises:
        FileNotFoundError: no such file.
        NpzError: not an ``.npz``, truncated, or an object array (which would have to be executed).
    """
    with _opened(path) as archive:
        members = set(archive.namelist())
        return {
            name: _read_member(archive, name, str(path), limit)
            for name in names
            if f"{name}.npy" in members
        }


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever is wrong with it while it is read is an :class:`NpzError`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; expected an .npz of arrays")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (NpzError, MemoryError):
        raise
    except Exception as error:  # of a damaged file zipfile and numpy raise a dozen kinds
        what = str(error) or type(error).__name__
        raise NpzError(
            f"{path}: not a readable .npz ({what}); it may be truncated: fetch or write it again"
        ) from error


def names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the arrays that the file has.

    Raises:
        FileNotFoundError: no such file.
        NpzError: not an ``.npz``, or truncated.
    """
    with _opened(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the file says of itself, the JSON object ``metadata``; empty where it has none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a readable ``.npz`` (:class:`NpzError`), or no JSON.
    """
    said = json.loads(str(read(path, ["metadata"]).get("metadata", "{}")))
    return said if isinstance(said, dict) else {}


def length(path: str | os.PathLike[str], name: str) -> int:
    """The number of rows that the file says it has of ``name``; 0 where it has none of that name.

    Raises:
        NpzError: not a readable ``.npz``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                return 0
            with cast(zipfile.ZipExtFile, archive.open(f"{name}.npy")) as member:
                shape = _read_header(member)[0]
    except Exception as error:
        raise NpzError(f"{path}: not a readable .npz ({error})") from error
    return shape[0] if shape else 0


def _read_member(
    archive: zipfile.ZipFile, name: str, source: str, limit: int | None
) -> NDArray[Any]:
    with cast(zipfile.ZipExtFile, archive.open(f"{name}.npy")) as member:
        shape, fortran_order, dtype = _read_header(member)
        if dtype.hasobject:
            raise NpzError(
                f"{source}: '{name}' is an object array, expected numbers; save it again with "
                f"{name}.astype('float32')"
            )
        rows_first = bool(shape) and not fortran_order
        kept = (min(limit, shape[0]), *shape[1:]) if rows_first and limit is not None else shape
        # Before memory is asked for: what the file says of itself has to be possible.
        declared, size = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{name}.npy")
        if declared > min(size.file_size, LARGEST_COMPRESSION * size.compress_size):
            raise NpzError(
                f"{source}: '{name}' ends early, it declares {declared} bytes in shape {shape}; "
                "fetch or write the file again"
            )
        array = np.empty(math.prod(kept), dtype)
        if member.readinto(array.view(np.uint8).data) != array.nbytes:
            raise NpzError(f"{source}: '{name}' ends early; fetch or write the file again")
        if kept == shape and member.read(1):
            raise NpzError(f"{source}: '{name}' holds more than its shape {shape} says")
    array = array.reshape(kept, order="F" if fortran_order else "C")
    return array[:limit] if shape else array


def _read_header(member: zipfile.ZipExtFile) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type of the array whose file begins here."""
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)

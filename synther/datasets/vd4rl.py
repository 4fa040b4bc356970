"""V-D4RL (Lu et al. 2022, arXiv 2206.04779): data sets of pictures, read and written.

``<root>/main/{task}/{level}/84px/*.hdf5``, arrays of one length N a file: ``observation`` uint8
``[N, 3, 84, 84]``, ``action [N, A]``, ``reward``, ``discount``, ``step_type`` (0 first, 1 mid,
2 last). ``64px/*.npz`` has one episode a file, with ``image [T, 64, 64, 3]`` and ``is_first``.

A row holds what happened on the way to it, as in dm_env: ``action[t]`` led from
``observation[t-1]`` to ``observation[t]`` and gave ``reward[t]``; those of an episode's first row
mean nothing.

Pictures stay uint8. Those that lie in a file as they are (:func:`write_vd4rl` leaves them so) are
mapped into memory and cost none; compressed ones are decoded once, into memory if they fit and into
a file that is mapped if they do not.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther import npz
from synther.atomic import atomic_write
from synther.datasets.files import METADATA_ATTRIBUTE, require_finite
from synther.datasets.load import DatasetNotFoundError
from synther.transitions import FloatArray, TransitionError

TASKS = ("walker_walk", "cheetah_run", "humanoid_walk")
LEVELS = ("random", "medium_replay", "medium", "medium_expert", "expert")
KEYS = ("observation", "action", "reward", "discount", "step_type")
FIRST, MID, LAST = 0, 1, 2
WHERE = (
    "V-D4RL's files are linked from https://github.com/conglu1997/v-d4rl; or render a small set: "
    "python3 -m synther.pixels.collect --help"
)
IN_MEMORY_BYTES = 8 << 30
_BLOCK = 512  # pictures decoded at a time
_AGAIN = "delete the file and fetch it again"
Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PixelEpisodes:
    """Episodes one after the other; N rows, each what :mod:`synther.datasets.vd4rl` says.

    Attributes:
        images: pictures uint8 ``[n, 3, H, W]`` of each file, N in all; possibly memory-mapped.
        actions: ``[N, A]`` float32.
        rewards, discounts: ``[N]`` float32.
        starts: ``[N]``, the row with which a row's episode begins.
        source: for error messages.
        metadata: of files that the project wrote.
    """

    images: tuple[Images, ...]
    actions: FloatArray
    rewards: FloatArray
    discounts: FloatArray
    starts: NDArray[np.int64]
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def image_size(self) -> int:
        return int(self.images[0].shape[-1])

    @property
    def episodes(self) -> int:
        return len(np.unique(self.starts))

    def gather(self, rows: NDArray[np.int64]) -> Images:
        """The pictures of ``rows [...]``, copied: ``[..., 3, H, W]``."""
        flat = rows.reshape(-1)
        stops = np.cumsum([len(each) for each in self.images])
        files = np.searchsorted(stops, flat, side="right")
        gathered = np.empty((len(flat), *self.images[0].shape[1:]), np.uint8)
        for file in np.unique(files):
            chosen = files == file
            first = stops[file] - len(self.images[file])
            gathered[chosen] = self.images[file][flat[chosen] - first]
        return gathered.reshape(*rows.shape, *gathered.shape[1:])


def find_vd4rl(
    root: str | os.PathLike[str], task: str, level: str, image_size: int = 84
) -> list[Path]:
    """The files of one data set, by name.

    Raises:
        DatasetNotFoundError: there are none; the message says where they are looked for and where
            to get them.
    """
    folder = Path(root).expanduser() / "main" / task / level / f"{image_size}px"
    suffix = "npz" if image_size == 64 else "hdf5"
    files = sorted(folder.glob(f"*.{suffix}"))
    if not files:
        raise DatasetNotFoundError(f"{folder}: no *.{suffix} here; {WHERE}")
    return files


def read_vd4rl(
    files: Sequence[Path], *, in_memory_bytes: int = IN_MEMORY_BYTES, cache: Path | None = None
) -> PixelEpisodes:
    """Read and check the files of a data set.

    Args:
        files: ``.hdf5`` or ``.npz``.
        in_memory_bytes: compressed pictures of more than that, in all, are decoded into ``cache``.
        cache: a folder; ``.frames`` beside the files where None.

    Raises:
        FileNotFoundError: no such file.
        TransitionError: a file that is damaged, half downloaded, or not of this layout; the message
            names the file and, where it can, key and row.
    """
    parts = [_read_npz(path) if path.suffix == ".npz" else _read_hdf5(path) for path in files]
    shapes = {(part.shape[1:], part.columns["action"].shape[1]) for part in parts}
    if len(shapes) > 1:
        raise TransitionError(f"{files[0].parent}: files of different sets: {sorted(shapes)}")
    sizes = [int(np.prod(part.shape)) for part in parts if part.mapped is None]
    on_disk = sum(sizes) > in_memory_bytes
    folder = (cache or files[0].parent / ".frames") if on_disk else None
    images = tuple(part.images(folder) for part in parts)
    columns = {
        key: np.concatenate([part.columns[key] for part in parts])
        for key in ("action", "reward", "discount", "first")
    }
    rows = np.arange(len(columns["first"]))
    starts = np.maximum.accumulate(np.where(columns["first"], rows, 0))
    return PixelEpisodes(
        images,
        columns["action"],
        columns["reward"],
        columns["discount"],
        starts,
        str(files[0].parent),
        parts[0].metadata,
    )


def write_vd4rl(
    path: Path, columns: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]
) -> Path:
    """Write the arrays of ``KEYS`` as one file, uncompressed, whole or not at all.

    ``metadata``: what the file says of itself, in JSON types.
    """
    import h5py

    contents = io.BytesIO()
    with h5py.File(contents, "w") as file:
        for key in KEYS:
            file.create_dataset(key, data=columns[key])
        file.attrs[METADATA_ATTRIBUTE] = json.dumps(dict(metadata))
    with atomic_write(path) as target:
        target.write(contents.getbuffer())
    return path


@dataclass
class _Part:
    """One file: its columns, and its pictures mapped or yet to be decoded."""

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


def _read_hdf5(path: Path) -> _Part:
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
        with h5py.File(path, "r", locking=False) as file:
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
            with h5py.File(path, "r", locking=False) as file:
                for at in range(0, shape[0], _BLOCK):
                    yield file["observation"][at : at + _BLOCK]
        except (OSError, RuntimeError) as error:
            raise _damaged(path, error) from error

    return _Part(path, shape, columns, mapped, blocks, described)


def _read_npz(path: Path) -> _Part:
    try:
        arrays = npz.read(path, ("image", "action", "reward", "discount", "is_first"))
    except npz.NpzError as error:
        raise TransitionError(str(error)) from error
    missing = [key for key in ("image", "action", "reward", "discount") if key not in arrays]
    if missing:
        raise TransitionError(f"{path}: missing {', '.join(missing)}; expected V-D4RL's arrays")
    image = arrays.pop("image")
    if image.ndim == 4:
        image = image.transpose(0, 3, 1, 2)
    firsts = arrays.pop("is_first", np.arange(len(image)) == 0).astype(bool)
    columns = {**arrays, "first": firsts}
    _check(image.shape, image.dtype, columns, path)
    return _Part(path, image.shape, columns, None, lambda: iter([image]), {})


def _firsts(step_type: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    """Where episodes begin; every one must end with a last row before the next begins."""
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
        if key != "first":
            columns[key] = column.astype(np.float32)
            require_finite(columns[key], key, str(path))
    if not len(columns["first"]) or not columns["first"][0]:
        raise TransitionError(f"{path}: does not begin with the first row of an episode")


def _damaged(path: Path, error: Exception) -> TransitionError:
    return TransitionError(f"{path}: HDF5, but half downloaded or damaged ({error}); {_AGAIN}")

"""V-D4RL's data sets of pictures (Lu et al. 2022, arXiv 2206.04779) are read and written here.

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

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.datasets.files import METADATA_ATTRIBUTE
from synther.datasets.load import DatasetNotFoundError
from synther.datasets.vd4rl_files import KEYS, WHERE, Images, read_part
from synther.files.atomic import atomic_write, expanded
from synther.transitions import FloatArray, TransitionError

TASKS = ("walker_walk", "cheetah_run", "humanoid_walk")
LEVELS = ("random", "medium_replay", "medium", "medium_expert", "expert")
IN_MEMORY_BYTES = 8 << 30


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
    folder = expanded(root) / "main" / task / level / f"{image_size}px"
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
    parts = [read_part(path) for path in files]
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

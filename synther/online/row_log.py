"""A ring buffer's rows are kept in files that are written once: a checkpoint costs what is new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synther.files.atomic import atomic_write
from synther.files.checkpoint import CheckpointError
from synther.learning.replay import RowBuffer

BLOCK_ROWS = 10_000


class RowLog:
    """Keeps the last rows of a run as ``rows-{start}-{stop}.npy``, counted over the whole run.

    Args:
        folder: where the files are.
        block_rows: of a full file; what is younger than the last full one is written anew each
            time.
    """

    def __init__(self, folder: Path, block_rows: int = BLOCK_ROWS) -> None:
        self.folder, self.block_rows = folder, block_rows

    def write(self, buffer: RowBuffer, inserted: int) -> None:
        """Bring the files up to date, when ``inserted`` rows in all have gone into ``buffer``."""
        for start, stop in self._blocks(buffer, inserted):
            path = self._path(start, stop)
            if not path.exists():
                positions = torch.arange(start, stop, device=buffer.device) % buffer.capacity
                save_rows(path, buffer.gather_rows(positions))

    def tidy(self, buffer: RowBuffer, inserted: int) -> None:
        """Remove the files that a run of ``inserted`` rows has no use for."""
        needed = {self._path(*block) for block in self._blocks(buffer, inserted)}
        for path in self.folder.glob("rows-*.npy"):
            if path not in needed:
                path.unlink()

    def read(self, buffer: RowBuffer, inserted: int) -> None:
        """Fill ``buffer`` with what it held after ``inserted`` rows.

        Raises:
            CheckpointError: a file is missing, damaged, or of other rows.
        """
        oldest = max(0, inserted - buffer.capacity)
        held = torch.empty(inserted - oldest, buffer.layout.row_dim)
        for start, stop in self._blocks(buffer, inserted):
            rows = load_rows(self._path(start, stop), stop - start, buffer.layout.row_dim)
            positions = torch.arange(max(start, oldest), stop)
            held[positions % buffer.capacity] = rows[positions - start]
        following = inserted % buffer.capacity
        buffer.load_state_dict({"rows": held, "size": len(held), "next": following})

    def _blocks(self, buffer: RowBuffer, inserted: int) -> list[tuple[int, int]]:
        """The first and the last (exclusive) row of each file. The buffer may hold only the end of
        the oldest file; the rows before that are never read again."""
        oldest = max(0, inserted - buffer.capacity)
        first = oldest - oldest % self.block_rows
        starts = range(first, inserted, self.block_rows)
        return [(start, min(start + self.block_rows, inserted)) for start in starts]

    def _path(self, start: int, stop: int) -> Path:
        return self.folder / f"rows-{start}-{stop}.npy"


def save_rows(path: Path, rows: Tensor) -> None:
    """Write rows ``[N, D]`` as ``.npy``, whole or not at all."""
    with atomic_write(path) as file:
        np.save(file, rows.cpu().numpy())


def load_rows(path: Path, count: int, width: int) -> Tensor:
    """Rows ``[count, width]`` of an ``.npy``.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else.
    """
    try:
        with open(path, "rb") as file:
            rows = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # of a damaged header numpy raises half a dozen kinds
        raise CheckpointError(f"{path}: cannot be read ({error}); start the run anew") from error
    if rows.shape != (count, width) or rows.dtype != np.float32:
        raise CheckpointError(
            f"{path}: holds {rows.dtype} {list(rows.shape)}, expected float32 [{count}, {width}]"
        )
    return torch.from_numpy(rows)

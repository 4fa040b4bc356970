"""A stream writes a large .npz of transitions in bounded memory, and survives interruption."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.files import atomic
from synther.transitions import TransitionLayout

COPY_BYTES = 1 << 20


class NpzStream:
    """Collects rows in one plain ``.npy`` a field, in a hidden folder beside the target, and joins
    them into the ``.npz`` at the end.

    Args:
        path: the ``.npz`` to write.
        layout: the layout of the appended rows, terminals included.
        num_rows: how many rows there will be.
        settings: everything that the rows depend on, as JSON values; a folder left by an
            interrupted run is continued only where they are the same.

    ``done`` is the number of rows already there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: TransitionLayout,
        num_rows: int,
        settings: dict[str, Any],
    ) -> None:
        if num_rows < 1:
            raise ValueError(f"num_rows is {num_rows}, expected 1 or more")
        self.path = Path(path)
        self.layout, self.num_rows, self.settings = layout, num_rows, settings
        self.folder = self.path.with_name(f".{self.path.name}.parts")
        self._files: dict[str, IO[bytes]] = {}
        self.done = 0

    def __enter__(self) -> NpzStream:
        self.done = self._rows_left_behind()
        if self.done == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        for name in self.layout.columns:
            file = open(self.folder / f"{name}.npy", "r+b" if self.done else "w+b")
            self._files[name] = file
            self._write_header(name, file)
            # Rows beyond the last recorded batch may be there in part: they are written again.
            file.seek(self.done * self._row_bytes(name), os.SEEK_CUR)
            file.truncate()
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, rows: NDArray[np.float32]) -> None:
        """Add rows ``[n, D]``; they are on disk and recorded when this returns."""
        if self.done + len(rows) > self.num_rows:
            raise ValueError(f"{self.done + len(rows)} rows, expected {self.num_rows}")
        for name, columns in self.layout.split(rows).items():
            file = self._files[name]
            file.write(np.ascontiguousarray(columns, "<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())
        self.done += len(rows)
        atomic.write_text(self._state, json.dumps({"settings": self.settings, "done": self.done}))

    def extend(self, batches: Iterable[Tensor], advance: Callable[[int], object]) -> None:
        """Append batches ``[n, D]``, each of them while the next one is made.

        A batch is on disk before the next but one is asked for, so that memory does not grow.

        Args:
            batches: the batches in order, on any device.
            advance: called with the length of each batch that is on disk.
        """

        def append(arrived: Callable[[], NDArray[np.float32]]) -> None:
            rows = arrived()
            self.append(rows)
            advance(len(rows))

        with ThreadPoolExecutor(1, "npz-writer") as writer:
            written: Future[None] | None = None
            copies = _HostCopies()
            for rows in batches:
                arrived = copies.begin(rows)
                if written:
                    written.result()
                written = writer.submit(append, arrived)
            if written:
                written.result()

    def finish(self, *, compress: bool, metadata: dict[str, Any]) -> None:
        """Join the fields into the ``.npz`` and remove the folder."""
        if self.done != self.num_rows:
            raise ValueError(f"{self.done} rows were written, expected {self.num_rows}")
        joined = self.folder / "joined.npz"
        method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        with zipfile.ZipFile(joined, "w", method, allowZip64=True) as archive:
            for name, file in self._files.items():
                file.flush()
                file.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    shutil.copyfileobj(file, member, COPY_BYTES)
            with archive.open("metadata.npy", "w") as member:
                np.lib.format.write_array(member, np.array(json.dumps(metadata)))
        with open(joined, "rb") as written:
            os.fsync(written.fileno())
        os.replace(joined, self.path)
        shutil.rmtree(self.folder)

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def _rows_left_behind(self) -> int:
        try:
            state = json.loads(self._state.read_text())
            same = state["settings"] == json.loads(json.dumps(self.settings))
            sizes = [
                (self.folder / f"{name}.npy").stat().st_size // self._row_bytes(name)
                for name in self.layout.columns
            ]
            return int(state["done"]) if same and min(sizes) >= state["done"] else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _shape(self, name: str) -> tuple[int, ...]:
        where = self.layout.columns[name]
        flat = name in ("rewards", "terminals")
        return (self.num_rows,) if flat else (self.num_rows, where.stop - where.start)

    def _row_bytes(self, name: str) -> int:
        where = self.layout.columns[name]
        return 4 * (where.stop - where.start)

    def _write_header(self, name: str, file: IO[bytes]) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shape(name)}
        np.lib.format.write_array_header_1_0(file, header)


class _HostCopies:
    """Copies batches to the host beside the device's work on the next ones.

    On CUDA they go to pinned memory in a stream of their own: in the stream of the work, a copy
    would come after all of the next batch, which is queued there already.
    """

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    def begin(self, rows: Tensor) -> Callable[[], NDArray[np.float32]]:
        """Begin to copy ``rows``; what this returns waits for them and hands them out."""
        if rows.device.type != "cuda":
            return rows.numpy
        stream = self._stream = self._stream or torch.cuda.Stream(rows.device)
        stream.wait_stream(torch.cuda.current_stream(rows.device))
        with torch.cuda.stream(stream):
            there = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
            there.copy_(rows, non_blocking=True)
            copied = stream.record_event()
        rows.record_stream(stream)  # its memory may not be used again before it is copied

        def arrived() -> NDArray[np.float32]:
            copied.synchronize()
            return there.numpy()

        return arrived

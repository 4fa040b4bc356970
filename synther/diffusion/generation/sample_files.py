"""Files of samples are told from others, and no data are lost where they are written."""

from __future__ import annotations

import contextlib
from pathlib import Path

from synther.datasets.outputs import require_other_file, require_replaceable
from synther.files import npz


def sample_files(folder: Path) -> list[str]:
    """The names of the files in a folder that hold samples of a model: those whose metadata say by
    which generator they were made."""
    found = []
    for path in folder.glob("*.npz"):
        with contextlib.suppress(ValueError, OSError):
            if "generator" in npz.metadata(path):
                found.append(path.name)
    return found


def require_place(path: Path, rows: int, dataset: str, *, set_aside: bool) -> None:
    """Refuse a place for ``rows`` samples that the data have, others' files, or more samples.

    Args:
        path: the file that the samples go into.
        rows: how many there will be.
        dataset: the name or path of the data that the command reads.
        set_aside: whether what is there is kept: a new run moves a file in its folder away.

    Raises:
        InputError: what is there would be lost; the message says what it is.
    """
    require_other_file(path, "--save_file_name", [dataset])
    if not set_aside:
        asked = f"--save_num_samples {rows}"
        require_replaceable(path, "--save_file_name", "samples", rows, asked)

"""Files of samples are told from others, and are not replaced by smaller ones."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from synther.files import npz
from synther.runs.folder import RunFolderError


def sample_files(folder: Path) -> list[str]:
    """The names of the files in a folder that hold samples of a model: those whose metadata say by
    which generator they were made."""
    found = []
    for path in folder.glob("*.npz"):
        with contextlib.suppress(ValueError, OSError):
            metadata = npz.read(path, ["metadata"]).get("metadata")
            if metadata is not None and "generator" in json.loads(str(metadata)):
                found.append(path.name)
    return found


def require_no_larger(path: Path, rows: int) -> None:
    """Refuse to put ``rows`` samples in the place of more.

    Raises:
        RunFolderError: there are more in the file; the message says how many.
    """
    there = 0
    if path.is_file():
        with contextlib.suppress(ValueError):  # what cannot be read is no loss
            there = npz.length(path, "rewards")
    if there > rows:
        raise RunFolderError(
            f"{path}: holds {there} samples, and --save_num_samples {rows} would replace them; "
            "choose another --save_file_name, or remove the file"
        )

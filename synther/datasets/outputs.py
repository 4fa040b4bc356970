"""A command's file replaces neither its input, nor files of other data, nor more rows."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from synther.datasets.files import HDF5_SUFFIXES, METADATA_ATTRIBUTE, open_hdf5
from synther.errors import InputError
from synther.files import npz
from synther.files.atomic import expanded

Kind = Literal["samples", "latents", "replay", "played", "subset"]
"""What a command writes: rows of a model, encoded pictures, the replay of an online run, episodes
of its policy, or a share of a data set."""
_ROWS: dict[Kind, str] = {
    "samples": "samples",
    "latents": "latent transitions",
    "replay": "transitions of a replay",
    "played": "transitions of a policy",
    "subset": "rows of a data set",
}
_SIGNS: dict[Kind, Callable[[Mapping[str, Any]], bool]] = {
    "samples": lambda said: said.get("source") == "SynthER" or "generator" in said,
    "latents": lambda said: said.get("source") == "pixels",
    "replay": lambda said: "online_exp.py" in str(said.get("command")),
    "played": lambda said: said.get("source") == "played",
    # Earlier versions did not say that it is one, but mostly what its whole data set returns.
    "subset": lambda said: "subset" in said or "return_range" in said,
}
"""The metadata by which a file of each kind is known."""


def require_other_file(
    path: str | os.PathLike[str], flag: str, inputs: Iterable[str | os.PathLike[str]]
) -> None:
    """Refuse to write a file that the command reads, by whatever name.

    Args:
        path: the file to write.
        flag: the flag that names it, for the message.
        inputs: the files that are read; names of data sets may be among them.

    Raises:
        InputError: it is one of them.
    """
    for each in inputs:
        if _is_same(Path(path), each):
            raise InputError(
                f"{flag} {path}: is the file that the command reads ({each}), and would be "
                f"overwritten; choose another {flag}"
            )


def require_replaceable(
    path: str | os.PathLike[str],
    flag: str,
    kind: Kind,
    rows: int,
    asked: str | None = None,
) -> None:
    """Refuse to put ``rows`` rows of a kind in the place of other data, or of more of its kind.

    Args:
        path: the file to write, which may be there already.
        flag: the flag that names it, for the message.
        kind: what is written.
        rows: how many there will be.
        asked: how the command was told this number; by default the number itself.

    Raises:
        InputError: there is a folder, a file that is not of this kind, or one that holds more
            rows; the message says how many.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{flag} {path}: is a folder; name a file")
    if not path.is_file():
        return
    is_hdf5 = path.suffix in HDF5_SUFFIXES
    said: dict[str, Any] = {}
    there = 0
    with contextlib.suppress(ValueError, OSError):  # what cannot be read is not of the kind
        said, there = _of_hdf5(path) if is_hdf5 else _of_npz(path)
    if not _SIGNS[kind](said):
        raise InputError(
            f"{flag} {path}: is there already, and holds no {kind} that this project wrote; choose "
            f"another {flag}, or move the file away"
        )
    if there > rows:
        raise InputError(
            f"{path}: holds {there} {_ROWS[kind]}, and {asked or rows} would replace them; choose "
            f"another {flag}, or remove the file"
        )


def _is_same(path: Path, other: str | os.PathLike[str]) -> bool:
    with contextlib.suppress(OSError):  # one of them is not there, or a name of a data set
        read = expanded(other)
        return os.path.samefile(path, read)
    return False


def _of_npz(path: Path) -> tuple[dict[str, Any], int]:
    return npz.metadata(path), npz.length(path, "rewards")


def _of_hdf5(path: Path) -> tuple[dict[str, Any], int]:
    with open_hdf5(path) as file:
        said = json.loads(str(file.attrs.get(METADATA_ATTRIBUTE, "{}")))
        rows = len(file["rewards"]) if "rewards" in file else 0
    return said if isinstance(said, dict) else {}, rows

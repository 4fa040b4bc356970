"""A file is written whole or not at all, whenever its writer is killed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends without an error.

    Folders are made where they are missing. After an error, or a crash at any moment, ``path`` is
    what it was before. A process that is killed leaves its part of a file under a hidden name,
    which nobody reads and :func:`remove_partials` removes.

    Raises:
        OSError: of the disk, with ``path`` for its file name.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        # A failed write knows no file name, and the hidden one would tell nobody anything.
        if error.errno is None or error.filename not in (None, os.fspath(partial)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(target)) from error
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk there is nothing to remove
            partial.unlink(missing_ok=True)


def remove_partials(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left in ``folder``, whose only writer the caller has to be."""
    for partial in Path(folder).glob(".*.partial"):
        partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8, see :func:`atomic_write`."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as JSON for people and programs, see :func:`atomic_write`."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def at_home(text: str) -> str:
    """Text with the home directory for a ``~/`` at its beginning; any other as it is.

    Raises:
        FileNotFoundError: as :func:`expanded`.
    """
    return str(expanded(text)) if text.startswith("~/") else text


def expanded(path: str | os.PathLike[str], otherwise: str = "give the whole path") -> Path:
    """The path with ``~`` replaced by the home directory.

    Raises:
        FileNotFoundError: there is no home directory, as in some containers; the message ends in
            ``otherwise``.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            f"{os.fspath(path)}: there is no home directory for ~ to stand for; {otherwise}"
        ) from error

"""A study names files as they are seen from where the command was started; its jobs, which start in
the checkout or in the study's folder, are given whole paths."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from synther.files.atomic import expanded
from synther.installed import CHECKOUT, shipped
from synther.sweeps.sections import Scalar, StudyError

FOLDERS_TOO = {"load_model"}
"""Arguments that name a file or a folder, and nothing else."""
_QUOTED = re.compile(r"(['\"])(.+?)\1")


def path_of(name: str, place: str) -> Path:
    """The path with ``~`` replaced by the home directory.

    Raises:
        StudyError: there is no such home; the message begins with ``place``, a file and a key.
    """
    try:
        return expanded(name)
    except FileNotFoundError as error:
        raise StudyError(f"{place}: {error}") from error


def source_of_data(data_set: str, place: str) -> str:
    """The whole path of a data set that is a file, or the name of another."""
    path = path_of(data_set, place)
    return str(path.resolve()) if path.is_file() else data_set


def gin_file(name: str, place: str) -> str:
    """The name of a file that came with SynthER, or the whole path of one in this folder."""
    path = path_of(name, place)
    own = path.is_file() and path.resolve() != shipped(path)
    return str(path.resolve()) if own else name


def argument(key: str, value: Scalar, place: str) -> str:
    """The text of an argument, which is a whole path where it names a file that is there.

    Which arguments of somebody's own algorithm are paths nobody knows: any text that looks like one
    is one if there is such a file.
    """
    if not isinstance(value, str):
        return str(value)
    if key.replace("-", "_") not in FOLDERS_TOO:
        return _whole(value, os.path.isfile, place) if _is_like_path(value) else value
    return _whole(value, os.path.exists, place)


def binding(text: str, place: str) -> str:
    """A binding of gin with whole paths in it: ``condition.name = 'values.npy'``."""

    def whole(match: re.Match[str]) -> str:
        quote, inner = match.groups()
        found = _whole(inner, os.path.isfile, place) if _is_like_path(inner) else inner
        return f"{quote}{found}{quote}"

    return _QUOTED.sub(whole, text)


def _is_like_path(text: str) -> bool:
    return "/" in text or bool(Path(text).suffix)


def _whole(text: str, is_there: Callable[[Path], bool], place: str) -> str:
    path = path_of(text, place)
    if not is_there(path):
        return text
    whole = path.resolve()
    # Jobs in a checkout find it by this name too, and may have been started with it before.
    return text if CHECKOUT and (CHECKOUT / text).resolve() == whole else str(whole)

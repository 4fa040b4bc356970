"""D4RL's data sets are found by name: this is where each file lies, and how it is fetched.

Files are kept where d4rl keeps them, under the names d4rl gives them, so that neither downloads
what the other already has. Names, URLs and time limits are those of d4rl 1.1 (``d4rl.json``).
"""

from __future__ import annotations

import json
import os
from functools import cache
from importlib import resources
from pathlib import Path

from synther.datasets.download import DownloadError, download
from synther.datasets.files import read_hdf5
from synther.files.atomic import expanded

OFFICIAL = "rail.eecs.berkeley.edu/datasets/offline_rl/"
# A copy of D4RL's files under their own names, in one folder. The official server has answered
# 403 for days at a time (D4RL issue 244).
HUGGING_FACE = "https://huggingface.co/datasets/imone/D4RL/resolve/main/"


@cache
def _table() -> dict[str, tuple[str, int]]:
    text = resources.files("synther.datasets").joinpath("d4rl.json").read_text(encoding="utf-8")
    return {name: (path, steps) for name, (path, steps) in json.loads(text)["datasets"].items()}


def names() -> list[str]:
    """Every name d4rl 1.1 has a file for, sorted."""
    return sorted(_table())


def name_of(path: Path) -> str | None:
    """The D4RL name whose file has this file name, if any."""
    return next((name for name in _table() if path.name in _file_names(name)), None)


def max_episode_steps(name: str) -> int:
    """The time limit d4rl registers the environment of this data set with."""
    return _table()[name][1]


def official_url(name: str) -> str:
    """The address at which D4RL publishes the file."""
    return "https://" + OFFICIAL + _table()[name][0]


def dataset_dir() -> Path:
    """``$D4RL_DATASET_DIR``, or ``~/.d4rl/datasets``."""
    folder = os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets"
    return expanded(folder, "set D4RL_DATASET_DIR to the folder of the data sets")


def dataset_path(name: str) -> Path:
    """The file of a data set: the one that is there, else the one d4rl would write."""
    candidates = [dataset_dir() / file_name for file_name in _file_names(name)]
    return next((path for path in candidates if path.exists()), candidates[0])


def locate(name: str) -> Path:
    """The local file of a data set, downloaded first where it is absent.

    ``$SYNTHER_D4RL_MIRROR``, a folder or the URL of one, takes the place of all other sources; a
    folder's file is used where it lies.

    Raises:
        DownloadError: no source gave the file; the message says what a person can do.
    """
    path = dataset_path(name)
    if path.exists():
        return path
    file_name = _file_names(name)[0]
    mirror = os.environ.get("SYNTHER_D4RL_MIRROR", "").strip()
    if mirror and not mirror.startswith(("http://", "https://")):
        local = expanded(mirror.removeprefix("file://")) / file_name
        if local.exists():
            return local
        raise DownloadError(_advice(name, path, f"  {local}: no such file"))
    if mirror:
        sources = [mirror.rstrip("/") + "/" + file_name]
    else:
        official = OFFICIAL + _table()[name][0]
        sources = ["https://" + official, "http://" + official, HUGGING_FACE + file_name]
    try:
        return download(sources, path, read_hdf5)
    except DownloadError as error:
        raise DownloadError(_advice(name, path, str(error))) from error


def _file_names(name: str) -> tuple[str, str]:
    """The URL's last part, as d4rl has it; and the data set's own name, as people save it."""
    return _table()[name][0].rsplit("/", 1)[-1], name + ".hdf5"


def _advice(name: str, path: Path, reasons: str) -> str:
    return (
        f"{name}: not in {path.parent}, and no source gave it:\n{reasons}\n"
        "What you can do:\n"
        f"  1. download {official_url(name)} by hand and save it as {path}\n"
        f"  2. set SYNTHER_D4RL_MIRROR to a folder, or the URL of one, that holds {path.name}\n"
        "  3. name a local .hdf5 or .npz file instead, or a data set that ships with SynthER "
        "(synther.datasets.list_datasets())"
    )

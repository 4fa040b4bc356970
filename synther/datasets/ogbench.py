"""OGBench's data sets are read as transitions (the extra ``ogbench``).

OGBench (Park et al. 2025, arXiv 2410.20092) keeps ``NAME.npz`` in ``~/.ogbench/data``: one row a
state, ``observations [N, O]``, ``actions [N, A]`` and ``terminals [N]``, 1 at the *last state* of
each trajectory, from which nothing follows. The next observation of a row is the following row's
observation, so that a trajectory of T + 1 rows has T transitions.

Its ``-singletask-`` variants (``cube-single-play-singletask-v0``, ``-singletask-task3-v0``) add
rewards and ``masks``, 0 where the task is solved: an end. They are computed from the ``qpos`` and
``button_states`` of the rows and from the goal of the environment, which needs the package; a file
that holds ``rewards [N]`` and ``masks [N]`` itself is read without it. Where a trajectory ends its
task need not be solved: that is a time-out here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.datasets.download import DownloadError, download
from synther.envs.ogbench import make_task
from synther.files import npz
from synther.files.atomic import expanded
from synther.transitions import TransitionError, Transitions

URL = "https://rail.eecs.berkeley.edu/datasets/ogbench/"
REQUIRED = ("observations", "actions", "terminals")
REWARDED = ("rewards", "masks")
INFO = ("qpos", "qvel", "button_states")
"""Of these the package computes the rewards of a task."""
NAME = re.compile(
    r"(?P<env>[a-z0-9]+(-[a-z0-9]+)*)-(?P<kind>[a-z]+)-(?P<task>singletask(-task\d)?)-(?P<v>v\d+)"
)
"""``ENV-KIND-singletask[-taskK]-vN``; KIND is the behaviour, such as ``navigate`` or ``play``."""
Arrays = dict[str, NDArray[Any]]


def load_ogbench(name: str) -> Transitions:
    """The transitions of a ``-singletask-`` data set, downloaded first where it is absent.

    Metadata hold ``env_id``, the environment to evaluate in, where the name says it.

    Args:
        name: of the data set, such as ``antmaze-large-navigate-singletask-v0``; or a path to an
            ``.npz`` of this layout that has ``rewards`` and ``masks``.

    Raises:
        FileNotFoundError: a path at which there is nothing.
        DownloadError: the data set is neither here nor to be had.
        ImportError: rewards have to be computed, and the package is not installed.
        TransitionError: a name without a task, pictures, or a file that is not of this layout.
    """
    path = expanded(name)
    match = NAME.fullmatch(name)
    if match is None and path.suffix != ".npz":
        raise TransitionError(
            f"ogbench:{name}: expected a data set with the rewards of a task, such as "
            "cube-single-play-singletask-v0 or antmaze-large-navigate-singletask-task2-v0 (those "
            "without 'singletask' have no rewards), or a path to an .npz"
        )
    env_id = None
    if match is not None:
        env_id = f"{match['env']}-{match['task']}-{match['v']}"
        path = locate(f"{match['env']}-{match['kind']}-{match['v']}")
    arrays = read(path)
    if not all(key in arrays for key in REWARDED):
        if env_id is None:
            raise TransitionError(
                f"{path}: has no {' and '.join(REWARDED)}, so rewards are unknown; give the data "
                "set's name with its task, such as ogbench:cube-single-play-singletask-v0"
            )
        arrays |= task_rewards(env_id, arrays, str(path))
    return to_transitions(arrays, str(path), {"env_id": env_id})


def to_transitions(arrays: Arrays, source: str, metadata: dict[str, Any]) -> Transitions:
    """The arrays of a file, checked by :func:`read`, with rewards and masks: T transitions for each
    trajectory of T + 1 rows, those of ``ogbench.utils.load_dataset``."""
    kept = arrays["terminals"] == 0
    rows = np.flatnonzero(kept)
    return Transitions.from_arrays(
        {
            "observations": arrays["observations"][rows],
            "actions": arrays["actions"][rows],
            "rewards": arrays["rewards"][rows],
            "next_observations": arrays["observations"][rows + 1],
            "terminals": 1 - arrays["masks"][rows],
            "timeouts": arrays["terminals"][rows + 1] > 0,
        },
        metadata=metadata,
        source=source,
    )


def read(path: Path) -> Arrays:
    """The arrays of a file in OGBench's layout.

    Raises:
        FileNotFoundError: no such file.
        TransitionError: not an ``.npz``, an array missing, pictures, lengths that differ, a
            terminal or mask that is not one number a row, 0 or 1, or rows that do not end with the
            end of a trajectory.
    """
    try:
        arrays = npz.read(path, (*REQUIRED, *REWARDED, *INFO))
    except npz.NpzError as error:
        raise TransitionError(str(error)) from error
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise TransitionError(
            f"{path}: missing {', '.join(map(repr, missing))}; found "
            f"{', '.join(map(repr, arrays)) or 'none of its arrays'}, expected OGBench's layout "
            f"with {', '.join(REQUIRED)}"
        )
    observations, terminals = arrays["observations"], arrays["terminals"]
    if observations.ndim != 2 or observations.dtype.kind != "f":
        raise TransitionError(
            f"{path}: 'observations' is {observations.dtype} of shape {observations.shape}, "
            "expected float vectors [rows, columns]; the visual data sets need an encoder first"
        )
    for key, array in arrays.items():
        if array.shape[:1] != observations.shape[:1]:
            raise TransitionError(
                f"{path}: '{key}' has shape {array.shape}, 'observations' has "
                f"{len(observations)} rows; every array needs one length"
            )
    for key in ("terminals", "masks"):
        flags = arrays.get(key, terminals)
        if flags.ndim != 1:
            raise TransitionError(
                f"{path}: '{key}' has shape {flags.shape}, expected one number a row"
            )
        if (wrong := np.flatnonzero((flags != 0) & (flags != 1))).size:
            row = wrong[0]
            raise TransitionError(f"{path}: '{key}' in row {row} is {flags[row]}, not 0 or 1")
    if not len(terminals) or not terminals[-1]:
        raise TransitionError(
            f"{path}: 'terminals' is not 1 in the last row, the last state of a trajectory; the "
            "file is cut off, or not OGBench's"
        )
    if terminals.all():
        raise TransitionError(f"{path}: every row ends a trajectory, so there are no transitions")
    return arrays


def task_rewards(env_id: str, arrays: Arrays, source: str) -> Arrays:
    """Rewards and masks ``[N]`` of the environment's task, as the package itself computes them.

    Raises:
        ImportError: the package is not installed.
        TransitionError: the file has no ``qpos`` to compute them from.
    """
    if "qpos" not in arrays:
        raise TransitionError(f"{source}: has neither {' and '.join(REWARDED)} nor 'qpos', from "
                              "which rewards are computed; fetch the file again")  # fmt: skip
    env = make_task(env_id)
    try:
        from ogbench.relabel_utils import relabel_dataset

        labelled: Arrays = {key: arrays[key] for key in INFO if key in arrays}
        relabel_dataset(env_id, env, labelled)
    finally:
        env.close()
    return {key: labelled[key] for key in REWARDED}


def locate(name: str) -> Path:
    """The file of a data set without its task, in ``$OGBENCH_DATASET_DIR`` or ``~/.ogbench/data``,
    where the package keeps it; downloaded where it is absent.

    Raises:
        DownloadError: it is neither here nor to be had; the message says what a person can do.
    """
    folder = expanded(
        os.environ.get("OGBENCH_DATASET_DIR") or "~/.ogbench/data",
        "set OGBENCH_DATASET_DIR to the folder of the data sets",
    )
    path = folder / f"{name}.npz"
    if path.is_file():
        return path
    try:
        return download([f"{URL}{name}.npz"], path, read)
    except DownloadError as error:
        raise DownloadError(
            f"ogbench:{name}: not in {folder}, and could not be downloaded:\n{error}\n"
            "What you can do:\n"
            f"  1. download {URL}{name}.npz by hand and save it as {path}\n"
            "  2. set OGBENCH_DATASET_DIR to a folder that holds it"
        ) from error

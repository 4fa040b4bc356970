"""``load_dataset`` turns the name of a data set, or a path, into ``Transitions``.

A name such as ``minari:mujoco/hopper/medium-v0`` says which file of this folder reads it: what
follows the colon is given to the function ``load_minari`` of ``minari.py``. A new source is thus a
file ``NAME.py`` with a function ``load_NAME(name: str) -> Transitions``, and is named nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synther.datasets import d4rl, ogbench
from synther.datasets.files import DATA_SUFFIXES, HDF5_SUFFIXES, read_hdf5
from synther.datasets.qlearning import to_transitions
from synther.envs import legacy
from synther.envs.scores import env_id_of, reference_scores
from synther.files import npz
from synther.files.atomic import expanded
from synther.ranges import Count, checked
from synther.suggestions import close_names
from synther.transitions import TransitionError, Transitions

SHIPPED_DIR = Path(__file__).with_name("data")
_MINARI_ID = re.compile(r"[\w.-]+(/[\w.-]+)+-v\d+")
_PREFIXED = re.compile(r"(?P<source>[a-z]\w+):(?P<name>.+)", re.DOTALL)

Source = str
"""``d4rl``, ``shipped``, ``file``, or the file of this folder that reads it, such as ``minari``."""


class DatasetNotFoundError(FileNotFoundError):
    """Neither a known name nor a file; the message names the nearest ones."""


@dataclass(frozen=True)
class DatasetInfo:
    """The facts about a named data set that are known without reading it.

    Attributes:
        name: its name.
        source: where it comes from.
        env_id: the environment it was recorded in, None where unknown.
        path: its file, which need not be there yet.
        url: where it is published, None for what ships with the package.
        max_episode_steps: the environment's time limit, None where unknown.
        reference_scores: returns that score 0 and 100, None where there are none.
    """

    name: str
    source: Source
    env_id: str | None
    path: Path
    url: str | None = None
    max_episode_steps: Count | None = None
    reference_scores: tuple[float, float] | None = None


@checked
def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    terminate_on_end: bool = False,
    d4rl_exact: bool = False,
    max_episode_steps: Count | None = None,
) -> Transitions:
    """Load a data set as transitions.

    Args:
        name_or_path: a name from ``list_datasets()`` (what ships with the package, and D4RL's
            names, downloaded where absent, by d4rl itself under ``SYNTHER_BACKEND=gym``); a path
            to an ``.hdf5`` in D4RL's layout or an ``.npz`` of five arrays; a Minari id, such as
            ``mujoco/hopper/medium-v0`` or ``minari:NAME``; a data set of OGBench with its task,
            such as ``cube-single-play-singletask-v0``; ``SOURCE:NAME`` for another file of this
            folder.
        terminate_on_end: D4RL's layout only: keep time-outs, with terminal 0, instead of dropping
            them.
        d4rl_exact: D4RL's layout only: the very arrays of d4rl 1.1's ``qlearning_dataset``. Without
            it, rows take the file's own ``next_observations`` where it has them (d4rl takes the
            following row's observation, be it another episode's); ``qlearning.to_transitions``
            says what else differs.
        max_episode_steps: D4RL's layout only: the time limit by which a file without ``timeouts``
            is cut into episodes; known for D4RL's names.

    Returns:
        Transitions whose ``metadata`` holds ``dataset``, ``source``, ``env_id``,
        ``observation_dim``, ``action_dim`` and ``reference_scores`` (``[min, max]``); those that
        are unknown are None. What an ``.npz`` says about itself is kept.

    Raises:
        DatasetNotFoundError: no such name or file.
        TransitionError: the file is not usable; the message says what is wrong, where, and what to
            do.
        synther.datasets.DownloadError: not here and not to be had.
        ImportError: a Minari data set without minari, or OGBench's without ogbench.
        ValueError: an option of D4RL's layout for data in another one.
    """
    name = os.fspath(name_or_path)
    source, path = _resolve(name)
    if path is not None and path.suffix in HDF5_SUFFIXES:
        return _load_hdf5(
            name if source == "d4rl" else d4rl.name_of(path),
            path,
            source,
            terminate_on_end=terminate_on_end,
            d4rl_exact=d4rl_exact,
            max_episode_steps=max_episode_steps,
        )
    if terminate_on_end or d4rl_exact or max_episode_steps is not None:
        raise ValueError(
            f"{name}: terminate_on_end, d4rl_exact and max_episode_steps are for HDF5 in D4RL's "
            "layout, this is not; leave them out"
        )
    if path is None:
        name = name.removeprefix(f"{source}:")
        read = _reader_of(source)
        assert read is not None
        return _described(read(name), name, source)
    return _described(Transitions.load(path), path.stem, source)


def list_datasets() -> list[str]:
    """The names ``load_dataset`` knows: what ships with the package first, then D4RL's."""
    return _shipped_names() + d4rl.names()


def dataset_info(name: str) -> DatasetInfo:
    """Describe a data set of ``list_datasets()`` without downloading or reading it.

    Raises:
        DatasetNotFoundError: no such name.
    """
    if name in _shipped_names():
        path = SHIPPED_DIR / f"{name}.npz"
        env_id = npz.metadata(path).get("env_id")
        scores = reference_scores(env_id) if env_id else None
        return DatasetInfo(name, "shipped", env_id, path, reference_scores=scores)
    if name not in d4rl.names():
        raise _not_found(name)
    return DatasetInfo(
        name=name,
        source="d4rl",
        env_id=env_id_of(name),
        path=d4rl.dataset_path(name),
        url=d4rl.official_url(name),
        max_episode_steps=d4rl.max_episode_steps(name),
        reference_scores=reference_scores(name),
    )


def source_of(name: str) -> Source | None:
    """``minari`` of ``minari:NAME``, where a file of this folder reads such names; else None."""
    match = _PREFIXED.fullmatch(name)
    if match is None or importlib.util.find_spec(f"{__package__}.{match['source']}") is None:
        return None
    return match["source"] if _reader_of(match["source"]) else None


def _reader_of(source: Source) -> Callable[[str], Transitions] | None:
    """The function ``load_SOURCE`` of the file ``SOURCE.py`` in this folder, where it has one."""
    module = importlib.import_module(f"{__package__}.{source}")
    return getattr(module, f"load_{source}", None)


def _resolve(name: str) -> tuple[Source, Path | None]:
    """The kind of a data set, and its file (None for a source that keeps its own)."""
    if name in _shipped_names():
        return "shipped", SHIPPED_DIR / f"{name}.npz"
    if name in d4rl.names():
        locate = legacy.locate_d4rl if legacy.backend() == "gym" else d4rl.locate
        return "d4rl", locate(name)
    path = expanded(name)
    if (source := source_of(name)) is not None and not path.exists():
        return source, None
    if path.suffix in DATA_SUFFIXES:
        if path.is_file():
            return "file", path
        raise DatasetNotFoundError(f"{name}: no such file")
    if path.exists():
        raise TransitionError(f"{name}: expected a file that ends in .hdf5, .h5 or .npz")
    if _MINARI_ID.fullmatch(name):
        return "minari", None
    if ogbench.NAME.fullmatch(name):
        return "ogbench", None
    raise _not_found(name)


def _load_hdf5(name: str | None, path: Path, source: Source, **options: Any) -> Transitions:
    if name is not None and options["max_episode_steps"] is None:
        options["max_episode_steps"] = d4rl.max_episode_steps(name)
    return _described(to_transitions(read_hdf5(path), **options), name or path.stem, source)


def _described(transitions: Transitions, name: str, source: Source) -> Transitions:
    """The same transitions with the metadata every data set has; what they say themselves wins."""
    own = dict(transitions.metadata)
    _check(transitions, own)
    env_id = own.get("env_id") or (env_id_of(name) if name in d4rl.names() else None)
    scores = own.get("reference_scores")
    if scores is None and env_id and source != "minari":  # Minari's are other data than D4RL's
        scores = reference_scores(env_id)
    described = {
        "dataset": name,
        "source": source,
        **own,
        "env_id": env_id,
        "observation_dim": transitions.observation_dim,
        "action_dim": transitions.action_dim,
        "reference_scores": None if scores is None else [float(score) for score in scores],
    }
    return replace(transitions, metadata=described)


def _check(transitions: Transitions, metadata: Mapping[str, Any]) -> None:
    """Check what every user of a data set relies on; somebody else's file may say anything."""
    if not len(transitions):
        raise TransitionError(f"{transitions.source}: no rows")
    env_id = metadata.get("env_id")
    if not isinstance(env_id, (str, type(None))):
        raise TransitionError(
            f"{transitions.source}: 'env_id' in its metadata is {env_id!r:.80}, expected a name"
        )
    for key, meaning in (
        ("reference_scores", "the returns that score 0 and 100"),
        ("return_range", "the smallest and the largest return of an episode"),
    ):
        stated = metadata.get(key)
        pair = isinstance(stated, (list, tuple)) and [type(each) in (int, float) for each in stated]
        if stated is not None and pair != [True, True]:
            raise TransitionError(
                f"{transitions.source}: '{key}' in its metadata are {stated!r:.80}, "
                f"expected two numbers, {meaning}"
            )


def _shipped_names() -> list[str]:
    return sorted(path.stem for path in SHIPPED_DIR.glob("*.npz"))


def _not_found(name: str) -> DatasetNotFoundError:
    nearest = close_names(name, list_datasets(), most=3)
    return DatasetNotFoundError(
        f"{name}: no data set of that name and no such file; "
        + (f"did you mean {', '.join(nearest)}? " if nearest else "")
        + "Names: synther.datasets.list_datasets(); a path ends in .hdf5 or .npz; a Minari id "
        "looks like mujoco/hopper/medium-v0"
    )

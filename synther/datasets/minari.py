"""Minari data sets are read as transitions (optional: the extra ``minari``).

Minari's ``mujoco/*`` sets are new data on gymnasium's ``-v5`` environments, not D4RL's: their
scores are never to be mixed.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from synther.action_bounds import NOTHING_DISCRETE, ActionBounds
from synther.datasets.download import DownloadError
from synther.datasets.files import METADATA_ATTRIBUTE
from synther.installed import install_hint
from synther.transitions import TransitionError, Transitions


def load_minari(dataset_id: str) -> Transitions:
    """Every step of a Minari data set, downloaded first where it is absent.

    A step that was cut off is kept: Minari records the observation that followed it. Metadata holds
    ``env_id``, the bounds of the recorded action space (actions stay in its units) and, where the
    data set states them, ``reference_scores`` (min, max).

    Args:
        dataset_id: such as ``mujoco/hopper/medium-v0``.

    Raises:
        ImportError: minari is not installed.
        DownloadError: the data set is neither here nor to be had.
        TransitionError: observations or actions are not flat boxes of numbers, or the data are bad.
    """
    return transitions_of(_open(dataset_id))


def transitions_of(dataset: Any) -> Transitions:
    """Every step of an open ``MinariDataset``; see :func:`load_minari`."""
    source = f"minari:{dataset.spec.dataset_id}"
    for kind in ("observation", "action"):
        _require_flat_box(getattr(dataset, f"{kind}_space"), kind, source)
    episodes = [_episode(episode, source) for episode in dataset.iterate_episodes()]
    if not episodes:
        raise TransitionError(f"{source}: has no episodes")
    stated = dataset.storage.metadata
    scores = [stated.get("ref_min_score"), stated.get("ref_max_score")]
    metadata: dict[str, Any] = {
        "env_id": dataset.env_spec.id if dataset.env_spec is not None else None,
        "reference_scores": None if None in scores else [float(score) for score in scores],
        **_bounds(dataset.action_space),
        **json.loads(stated.get(METADATA_ATTRIBUTE, "{}")),  # of a set that the project wrote
    }
    return Transitions.from_arrays(
        {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]},
        metadata=metadata,
        source=source,
    )


def _open(dataset_id: str) -> Any:
    try:
        import minari
    except ImportError as error:
        raise ImportError(
            f"minari:{dataset_id}: reading it needs minari; run {install_hint('minari')}"
        ) from error
    try:
        return minari.load_dataset(dataset_id)
    except FileNotFoundError:
        pass  # not here yet
    try:
        return minari.load_dataset(dataset_id, download=True)
    except Exception as error:  # whatever the hub's client raises: all of them mean "not to be had"
        raise DownloadError(
            f"minari:{dataset_id}: not on this machine, and could not be downloaded "
            f"({type(error).__name__}: {error}). What you can do:\n"
            f"  1. run 'minari download {dataset_id}' where there is network; 'minari list remote' "
            "shows which names exist\n"
            "  2. set MINARI_DATASETS_PATH to a folder that holds it\n"
            "  3. name a local .hdf5 or .npz file, or a data set that ships with SynthER"
        ) from error


def _require_flat_box(space: Any, kind: str, source: str) -> None:
    from gymnasium import spaces

    discrete = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    if kind == "action" and isinstance(space, discrete):
        raise TransitionError(
            f"{source}: the action space is {space}, expected a flat Box: {NOTHING_DISCRETE}"
        )
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise TransitionError(
            f"{source}: the {kind} space is {space}, expected a flat Box; flatten it first and "
            "save the result with Transitions.save"
        )


def _bounds(space: Any) -> dict[str, Any]:
    """The metadata of an action space's bounds; none where they are not finite."""
    try:
        return ActionBounds.of(space.low, space.high, space.shape[0]).to_plain()
    except ValueError:
        return {}


def _episode(episode: Any, source: str) -> dict[str, Any]:
    """One Minari episode of T steps: its observations have T + 1 rows, the last one included."""
    steps = len(episode.rewards)
    if len(episode.observations) != steps + 1 or len(episode.actions) != steps:
        raise TransitionError(
            f"{source}: episode {episode.id} has {len(episode.observations)} observations and "
            f"{len(episode.actions)} actions for {steps} steps, expected {steps + 1} and {steps}"
        )
    return {
        "observations": episode.observations[:-1],
        "actions": episode.actions,
        "rewards": episode.rewards,
        "next_observations": episode.observations[1:],
        "terminals": episode.terminations,
        "timeouts": np.arange(steps) == steps - 1,
    }

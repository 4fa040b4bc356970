"""Transitions are written as a Minari data set (optional: the extra ``minari``)."""

from __future__ import annotations

import json
import shutil
import warnings
from typing import Any

import numpy as np

from synther.datasets.action_units import in_action_bounds, with_action_bounds
from synther.datasets.episodes import episode_ends
from synther.datasets.files import METADATA_ATTRIBUTE
from synther.envs.action_spaces import environment_bounds
from synther.installed import install_hint
from synther.transitions import Transitions

SYNTHETIC = "SynthER"
MANY = 10_000
BYTES, SECONDS = 14_000, 0.005
"""What an episode costs in Minari's HDF5, however short it is: a group with nine members."""


def write_minari(
    transitions: Transitions,
    dataset_id: str,
    *,
    env_id: str | None = None,
    author: str = "unknown",
    author_email: str = "unknown",
    code_permalink: str = "unknown",
) -> Any:
    """Write a local Minari data set, which ``load_dataset`` and Minari itself read back.

    Minari knows episodes, not transitions. A row that the next one continues stays in one episode
    with it (see :func:`synther.datasets.episodes.episode_ends`); a synthetic row is an episode of
    one step and two observations, terminated where it is a terminal, else truncated. Nothing is
    lost, and every return is that of its fragment, not of an episode in the environment.

    Provenance: all of ``transitions.metadata`` under ``synther_metadata``, as JSON; ``SynthER`` as
    the algorithm where ``source`` in it says so; and a description in words. Spaces are those of
    ``env_id``, or else unbounded observations and actions between their bounds; where nobody knows
    these, in the range of the data, [-1, 1] or more.

    Actions are written in the units of the environment's own space: those in other units, such as
    the [-1, 1] of a replay of Stable-Baselines3 or of our own online runs, are mapped to it.

    Args:
        transitions: one row or more.
        dataset_id: such as ``synther/hopper/synthetic-v0``; not yet there.
        env_id: an environment that gymnasium makes, for ``recover_environment``; None leaves it
            out (``metadata["env_id"]`` is kept all the same).
        author, author_email, code_permalink: for Minari's own metadata.

    Returns:
        The ``MinariDataset``.

    Warns:
        UserWarning: more than ``MANY`` episodes; it says what they will take.

    Raises:
        ImportError: minari is not installed.
        ValueError: no rows, a data set of that name exists, or Minari refuses the name; nothing is
            left behind.
    """
    try:
        import minari
        from minari.storage.datasets_root_dir import get_dataset_path
    except ImportError as error:
        raise ImportError(
            f"minari:{dataset_id}: writing it needs minari; run {install_hint('minari')}"
        ) from error
    if not len(transitions):
        raise ValueError(f"minari:{dataset_id}: there are no rows to write")
    if env_id is not None:
        transitions = _in_units_of(transitions, env_id)
    folder = get_dataset_path(dataset_id)
    if folder.exists():
        raise ValueError(
            f"minari:{dataset_id}: exists in {folder}; choose another name or version, or delete "
            f"it with minari.delete_dataset('{dataset_id}')"
        )
    count = int(episode_ends(transitions).sum())
    if count > MANY:
        warnings.warn(
            f"minari:{dataset_id}: {len(transitions)} rows are {count} episodes, which take about "
            f"{count * BYTES / 1e9:.1f} GB and {count * SECONDS / 60:.0f} minutes; for rows that "
            "nothing follows, Transitions.save (.npz) takes seconds",
            stacklevel=2,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about metadata that is optional
            dataset = minari.create_dataset_from_buffers(
                dataset_id,
                _episodes(transitions, minari.data_collector.EpisodeBuffer),
                env=env_id,
                algorithm_name=str(transitions.metadata.get("source", "unknown")),
                description=_description(transitions),
                author=author,
                author_email=author_email,
                code_permalink=code_permalink,
                **_spaces(transitions, env_id),
            )
            dataset.storage.update_metadata(
                {METADATA_ATTRIBUTE: json.dumps(dict(transitions.metadata))}
            )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return dataset


def _in_units_of(transitions: Transitions, env_id: str) -> Transitions:
    """The rows with actions in the units of the environment."""
    described = with_action_bounds(transitions, env_id=env_id)
    space = environment_bounds(env_id, transitions.action_dim)
    if space is None or described.action_bounds is None:
        return transitions
    return in_action_bounds(described, space.low, space.high)


def _episodes(transitions: Transitions, episode_type: Any) -> list[Any]:
    stops = np.flatnonzero(episode_ends(transitions)) + 1
    starts = np.concatenate([[0], stops[:-1]])
    episodes = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        last = np.arange(start, stop) == stop - 1
        terminated = transitions.terminals[start:stop] > 0
        observations = transitions.observations[start:stop]
        episodes.append(
            episode_type(
                observations=[*observations, transitions.next_observations[stop - 1]],
                actions=list(transitions.actions[start:stop]),
                rewards=list(transitions.rewards[start:stop]),
                terminations=list(terminated),
                truncations=list(last & ~terminated),
            )
        )
    return episodes


def _spaces(transitions: Transitions, env_id: str | None) -> dict[str, Any]:
    if env_id is not None:
        return {}
    from gymnasium import spaces

    low = np.minimum(transitions.actions.min(axis=0), -1)
    high = np.maximum(transitions.actions.max(axis=0), 1)
    if (bounds := transitions.action_bounds) is not None:
        low, high = bounds.low, bounds.high
    shape = (transitions.observation_dim,)
    return {
        "observation_space": spaces.Box(-np.inf, np.inf, shape, np.float32),
        "action_space": spaces.Box(low, high, dtype=np.float32),
    }


def _description(transitions: Transitions) -> str:
    metadata = transitions.metadata
    origin = metadata.get("dataset") or metadata.get("env_id") or "data of the author's own"
    if metadata.get("source") != SYNTHETIC:
        return f"{len(transitions)} transitions of {origin}"
    return (
        f"{len(transitions)} synthetic transitions, drawn by SynthER from a diffusion model of "
        f"{origin}. Rows are independent: an episode is one step, and returns mean nothing."
    )

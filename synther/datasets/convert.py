"""Arrays, files, and replays of other libraries are converted to ``Transitions``.

Objects of other libraries are known by their attributes; none of the libraries is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from synther.action_bounds import NOTHING_DISCRETE, ActionBounds
from synther.datasets.load import load_dataset
from synther.datasets.minari import transitions_of
from synther.transitions import FIELDS, TransitionError, Transitions, require_continuous

ACCEPTED = (
    "Transitions, a mapping with the five arrays, the name of a data set, a path to .npz or .hdf5, "
    "a Minari data set, a Stable-Baselines3 replay buffer or a d3rlpy data set"
)


Convert = TypeVar("Convert", bound=Callable[[Any], Transitions])
_CONVERSIONS: list[tuple[Callable[[Any], bool], Callable[[Any], Transitions]]] = []


def converts(knows: Callable[[Any], bool]) -> Callable[[Convert], Convert]:
    """Function decorator: :func:`as_transitions` gives it every object of which ``knows`` is true.

    An integration of another library uses it in its own file, which a user imports.
    """

    def register(convert: Convert) -> Convert:
        _CONVERSIONS.append((knows, convert))
        return convert

    return register


def as_transitions(data: Any) -> Transitions:
    """Transitions out of any of the kinds below, checked.

    Args:
        data: ``Transitions``; a mapping with ``observations [N, O]``, ``actions [N, A]``,
            ``rewards [N]``, ``next_observations [N, O]`` and ``terminals [N]``; what
            :func:`synther.datasets.load_dataset` takes; a ``MinariDataset``; a ``ReplayBuffer`` of
            Stable-Baselines3, its rows oldest first; a ``ReplayBuffer`` or ``MDPDataset`` of
            d3rlpy; what a function under :func:`converts` knows.

    A time-out is no terminal, wherever the source tells the two apart. Sources that do not record
    what followed a terminal (d3rlpy; Stable-Baselines3 with ``optimize_memory_usage``) have the
    terminal row's own observation in its place: no target of an agent ever looks at it.

    Discrete actions are known by their type, so that whole numbers stored as floats, or one-hot
    ones, pass for continuous ones; a model of them does not know that there is nothing in between.

    Raises:
        TypeError: something else.
        TransitionError: images, discrete actions, no rows, or what :class:`Transitions` refuses.
    """
    if isinstance(data, Transitions):
        return data
    if isinstance(data, (str, os.PathLike)):
        return load_dataset(data)
    if isinstance(data, Mapping):
        return _of_arrays(data, "arrays")
    if hasattr(data, "iterate_episodes"):
        return transitions_of(data)
    if all(hasattr(data, name) for name in ("obs_shape", "dones", "timeouts", "pos", "full")):
        return _of_sb3(data)
    if hasattr(data, "episodes") and hasattr(data, "transition_picker"):
        return _of_d3rlpy(data)
    for knows, convert in _CONVERSIONS:
        if knows(data):
            return convert(data)
    raise TypeError(f"{type(data).__name__} is not known; expected {ACCEPTED}")


def require_vectors(arrays: Mapping[str, Any], source: str) -> None:
    """Refuse images and discrete actions in words of their own, before a shape does it.

    Raises:
        TransitionError: observations of three axes or more, or actions that are whole numbers.
    """
    observations, actions = (np.asarray(arrays[name]) for name in ("observations", "actions"))
    if observations.ndim > 2:
        raise TransitionError(
            f"{source}: 'observations' has shape {observations.shape}, images or other arrays, "
            "expected vectors [rows, columns]; encode them first, and give the codes"
        )
    require_continuous(actions, source)


def _of_arrays(arrays: Mapping[str, Any], source: str, **metadata: Any) -> Transitions:
    if "observations" in arrays and "actions" in arrays:
        require_vectors(arrays, source)
    return Transitions.from_arrays(arrays, metadata=metadata, source=source)


def _of_sb3(buffer: Any) -> Transitions:
    """A Stable-Baselines3 buffer of N steps of E environments as ``N * E`` rows.

    Observations and rewards as they were before ``VecNormalize``, actions in [-1, 1], of whatever
    environment: the buffer holds them so, and the metadata say it.
    """
    source = f"Stable-Baselines3 {type(buffer).__name__}"
    if not isinstance(buffer.observations, np.ndarray):
        raise TransitionError(f"{source}: its observations are a dict, expected vectors")
    start = buffer.pos if buffer.full else 0
    steps = (start + np.arange(buffer.size())) % buffer.buffer_size
    if buffer.optimize_memory_usage:
        if buffer.full:
            steps = steps[1:]  # the oldest observation was overwritten by the newest successor
        after = buffer.observations[(steps + 1) % buffer.buffer_size]
        ended = buffer.dones[steps] > 0
        after = np.where(ended[..., None], buffer.observations[steps], after)
    else:
        after = buffer.next_observations[steps]
    if not len(steps):
        raise TransitionError(f"{source}: holds no rows")
    columns = {
        "observations": buffer.observations[steps],
        "actions": buffer.actions[steps],
        "rewards": buffer.rewards[steps],
        "next_observations": after,
        "terminals": buffer.dones[steps] * (1 - buffer.timeouts[steps]),
    }
    if buffer.n_envs == 1:  # the rows of several take turns
        columns["timeouts"] = buffer.dones[steps]
    rows = {name: column.reshape(-1, *column.shape[2:]) for name, column in columns.items()}
    bounds = ActionBounds.unit(int(np.prod(rows["actions"].shape[1:])))
    return _of_arrays(rows, source, **bounds.to_plain())


def _of_d3rlpy(dataset: Any) -> Transitions:
    """The transitions that d3rlpy itself would draw, in the order of its episodes.

    An episode of L steps that did not terminate has L - 1 of them: nobody knows what followed its
    last step.
    """
    source = f"d3rlpy {type(dataset).__name__}"
    space: Any = getattr(getattr(dataset, "dataset_info", None), "action_space", None)
    if getattr(space, "name", None) == "DISCRETE":
        raise TransitionError(f"{source}: the action space is {space.name}: {NOTHING_DISCRETE}")
    parts: dict[str, list[Any]] = {name: [] for name in (*FIELDS, "timeouts")}
    for episode in dataset.episodes:
        if not isinstance(episode.observations, np.ndarray):
            raise TransitionError(f"{source}: its observations are tuples, expected vectors")
        count = episode.transition_count
        following = episode.observations[1 : count + 1]
        if episode.terminated:
            following = np.concatenate([following, episode.observations[-1:]])
        terminals = np.zeros(count, np.float32)
        terminals[-1:] = episode.terminated
        rewards = np.asarray(episode.rewards)[:count].reshape(count, -1)
        columns = (episode.observations[:count], episode.actions[:count], rewards, following)
        ends = np.arange(count) == count - 1
        for name, column in zip(parts, (*columns, terminals, ends), strict=True):
            parts[name].append(column)
    if not parts["terminals"]:
        raise TransitionError(f"{source}: holds no episodes")
    return _of_arrays({name: np.concatenate(part) for name, part in parts.items()}, source)

"""SynthER and d3rlpy (the extra ``d3rlpy``): transitions to and from ``MDPDataset``.

d3rlpy's ``TD3PlusBC``, ``IQL`` and ``CQL`` are counterparts of ours. It has no EDAC; the nearest is
``SACConfig(n_critics=N)``, which is EDAC without the diversity of gradients (SAC-N).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synther.datasets import as_transitions
from synther.datasets.episodes import episode_ends
from synther.installed import install_hint
from synther.transitions import Transitions


def from_mdp_dataset(dataset: Any) -> Transitions:
    """The transitions that d3rlpy draws from an ``MDPDataset`` or another of its buffers.

    d3rlpy does not record what followed a terminal; the row's own observation is put there.
    """
    return as_transitions(dataset)


def to_mdp_dataset(transitions: Transitions) -> Any:
    """An ``MDPDataset`` from which d3rlpy draws these very transitions.

    d3rlpy knows episodes, and takes the next observation from the next step. Rows that continue
    each other (see :func:`synther.datasets.episodes.episode_ends`) become one episode; a synthetic
    row becomes one of its own. An episode that is no terminal at its end is cut off after one more
    step, which holds the last next observation, and which d3rlpy never draws: its reward is 0 and
    its action that of the step before, made up like any next action there. So algorithms that read
    next actions (``ReBRAC``) or returns of episodes (``DecisionTransformer``) are not for it.

    Actions keep their units. d3rlpy's algorithms act in [-1, 1]: for others give them its
    ``MinMaxActionScaler``, or bring the rows to [-1, 1] first, with
    :func:`synther.datasets.in_action_bounds`.

    Raises:
        ImportError: d3rlpy is not installed.
        ValueError: no rows.
    """
    try:
        from d3rlpy import ActionSpace
        from d3rlpy.dataset import MDPDataset
    except ImportError as error:
        raise ImportError(f"to_mdp_dataset needs d3rlpy; run {install_hint('d3rlpy')}") from error
    if not len(transitions):
        raise ValueError(f"{transitions.source}: there are no rows")
    terminals = transitions.terminals > 0
    cut = episode_ends(transitions) & ~terminals
    steps = np.repeat(np.arange(len(transitions)), 1 + cut)
    added = np.zeros(len(steps), np.bool_)
    added[np.flatnonzero(cut) + np.cumsum(cut)[cut]] = True
    observations = transitions.observations[steps]
    observations[added] = transitions.next_observations[cut]
    return MDPDataset(
        observations,
        transitions.actions[steps],
        np.where(added, 0, transitions.rewards[steps]).astype(np.float32),
        terminals[steps].astype(np.float32),
        added.astype(np.float32),
        action_space=ActionSpace.CONTINUOUS,
        action_size=transitions.action_dim,
    )

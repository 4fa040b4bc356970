"""Transitions become rows, rows make a new model, and its samples become transitions again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import gin
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from synther.diffusion.conditioning.condition import Condition
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.norm import NormalizerType, normalizer_factory
from synther.ranges import CountFrom0, Share, Width, checked
from synther.transitions import TransitionLayout, Transitions

MODELLED_TERMINALS = True
"""Rows end in a terminal column where nothing else is said, as in the 2023 release."""

RowsT = TypeVar("RowsT", NDArray[np.float32], torch.Tensor)


def layout_of(layout_or_env: Any, *, terminals: bool = True) -> TransitionLayout:
    """Return a layout as it is; for anything with ``observation_space`` and ``action_space``,
    return the layout of its transitions, with a terminal column where ``terminals``."""
    if isinstance(layout_or_env, TransitionLayout):
        return layout_or_env
    try:
        (observation_dim,) = layout_or_env.observation_space.shape
        (action_dim,) = layout_or_env.action_space.shape
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{type(layout_or_env).__name__}: expected a TransitionLayout, or an environment whose "
            "observations and actions are vectors"
        ) from error
    return TransitionLayout(int(observation_dim), int(action_dim), terminals)


def layout_of_model(model: ElucidatedDiffusion, layout_or_env: Any) -> TransitionLayout:
    """The layout of a model's rows: the one given, or that of an environment's transitions.

    An environment does not say whether the model's rows end in a terminal column. The model does;
    for a model that does not, ``split_diffusion_samples.modelled_terminals`` says it, as in the
    2023 release: what gin binds it to, else True.

    Raises:
        TypeError: neither a layout nor an environment whose observations and actions are vectors.
        ValueError: the model's rows have another layout, or another number of columns.
    """
    if model.layout is not None:
        terminals = model.layout.terminals
    else:
        bound = gin.get_bindings(split_diffusion_samples)
        terminals = bound.get("modelled_terminals", MODELLED_TERMINALS)
    layout = layout_of(layout_or_env, terminals=terminals)
    if model.layout not in (None, layout):
        raise ValueError(f"the model's rows are {model.layout}, expected {layout}")
    if (layout.row_dim,) != tuple(model.event_shape):
        raise ValueError(
            f"the model's rows have {model.event_shape[0]} columns, {layout} has {layout.row_dim}; "
            "for a model without a terminal column, pass a TransitionLayout that says so, or bind "
            "split_diffusion_samples.modelled_terminals = False"
        )
    return layout


@gin.configurable("make_inputs")  # the 2023 release's name, which gin files bind
def rows_and_layout(
    data: Transitions | str | os.PathLike[str], modelled_terminals: bool = MODELLED_TERMINALS
) -> tuple[NDArray[np.float32], TransitionLayout]:
    """Rows ``[N, D]`` float32 for the diffusion model, and which of their columns hold what.

    Args:
        data: the transitions, or a data set's name or path (see :mod:`synther.datasets`).
        modelled_terminals: whether the last column is the terminal flag.
    """
    if not isinstance(data, Transitions):
        from synther.datasets import load_dataset

        data = load_dataset(data)
    layout = TransitionLayout.of(data, terminals=modelled_terminals)
    return layout.pack(data), layout


def make_inputs(
    data: Transitions | str | os.PathLike[str], modelled_terminals: bool | None = None
) -> NDArray[np.float32]:
    """The rows of :func:`rows_and_layout` alone, as in the 2023 release.

    Args:
        data: the transitions, or a data set's name or path.
        modelled_terminals: None for what gin binds, else True.
    """
    chosen = {} if modelled_terminals is None else {"modelled_terminals": modelled_terminals}
    rows, _ = rows_and_layout(data, **chosen)
    return rows


@gin.configurable
@checked
def split_diffusion_samples(
    samples: RowsT,
    layout_or_env: Any,
    modelled_terminals: bool = MODELLED_TERMINALS,
    terminal_threshold: Share = 0.5,
) -> tuple[RowsT, RowsT, RowsT, RowsT, RowsT]:
    """Rows ``[N, D]`` (numpy or torch) -> observations ``[N, O]``, actions ``[N, A]``, rewards
    ``[N]``, next observations ``[N, O]``, terminals ``[N]``.

    Args:
        samples: the rows as the model gives them.
        layout_or_env: a layout, or an environment to take O and A from.
        modelled_terminals: whether the rows end in a terminal column; a layout says so itself.
        terminal_threshold: a terminal is 1 above it, otherwise 0; all 0 where not modelled.

    Raises:
        TransitionError: rows of another width.
    """
    layout = layout_of(layout_or_env, terminals=modelled_terminals)
    fields = layout.split(samples)
    rewards = fields["rewards"][:, 0]
    if layout.terminals:
        flags = fields["terminals"][:, 0] > terminal_threshold
        terminals = (
            flags.to(rewards) if isinstance(flags, torch.Tensor) else flags.astype("float32")
        )
    else:
        terminals = rewards * 0
    return (
        fields["observations"],
        fields["actions"],
        rewards,
        fields["next_observations"],
        terminals,
    )


@gin.configurable
@checked
def construct_diffusion_model(
    inputs: Any,
    normalizer_type: NormalizerType,
    denoising_network: Callable[..., nn.Module],
    disable_terminal_norm: bool = False,
    skip_dims: Iterable[CountFrom0] = (),
    cond_dim: Width | None = None,
    layout: TransitionLayout | None = None,
    condition: Condition | None = None,
) -> ElucidatedDiffusion:
    """A new diffusion model for rows ``[N, D]``, its normaliser fitted to them.

    Args:
        inputs: the rows, a tensor or an array.
        normalizer_type: ``transitions``, which needs the layout, or ``standard`` or ``minmax``.
        denoising_network: makes the network; it is called with ``d_in`` and ``cond_dim``.
        disable_terminal_norm: leave the last column, the terminal flag, as it is. ``transitions``
            knows flags and does better without.
        skip_dims: further columns to leave as they are.
        cond_dim: C, the columns of a condition; None for no condition.
        layout: which columns hold what, which the model then keeps. One without terminals switches
            ``disable_terminal_norm`` off, because then the last column is an observation's.
        condition: what rows can be asked for by; it says ``cond_dim``.
    """
    dim = int(inputs.shape[1])
    if layout is not None and layout.row_dim != dim:
        raise ValueError(f"inputs have {dim} columns, the layout {layout.row_dim}")
    skipped = list(skip_dims)
    if disable_terminal_norm and (layout is None or layout.terminals):
        skipped.append(dim - 1)
    if condition is not None:
        cond_dim = condition.dim
    return ElucidatedDiffusion(
        net=denoising_network(d_in=dim, cond_dim=cond_dim),
        normalizer=normalizer_factory(normalizer_type, inputs, skipped, layout),
        event_shape=(dim,),
        layout=layout,
        condition=condition,
    )

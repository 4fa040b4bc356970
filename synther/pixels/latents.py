"""Latent transitions: a data set of pictures through a frozen encoder, and batches of the result.

A latent transition is a transition like any other: its observation is the latent of s, its next
observation that of the observation n steps later with the *target* critic's part, its reward the
n-step sum. Its discount is 0 after a true end and ``gamma^n`` otherwise, nothing else, and is
stored as the terminal flag; so a sampled discount is one of the two, never something in between.
Where no episode truly ends, as in DeepMind Control, let the diffusion model leave the flag out
(``modelled_terminals = False``): a briefly trained model sets it where the data never does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.learning.replay import Batch, RowBuffer
from synther.learning.streams import BlockStream
from synther.pixels.frame_replay import FrameReplay
from synther.pixels.heads import LatentEncoder
from synther.runs.loggers import progress_bar
from synther.transitions import FloatArray, TransitionError, TransitionLayout, Transitions

GenerateRows = Callable[[int, torch.Generator], Tensor]
"""(n, generator) -> rows ``[n, 2 L + A + 2]``."""


@torch.no_grad()
def encode_replay(
    encoder: LatentEncoder, replay: FrameReplay, n_step_discount: float, batch_size: int = 256
) -> Transitions:
    """Every window of ``replay`` as a latent transition, without augmentation.

    Args:
        encoder: frozen; DrQ+BC's or one of your own.
        replay: its discounts are 0 or ``n_step_discount``.
        n_step_discount: ``gamma^n``.
        batch_size: pictures encoded at a time.

    Raises:
        TransitionError: a discount that is neither.
    """
    terminals = discounts_to_terminals(replay.windows.discounts, n_step_discount)
    states, next_states = [], []
    with progress_bar(len(replay), "encoding", unit="row") as bar:
        for batch in replay.batches(batch_size):
            states.append(encoder.encode(batch.images).float().cpu().numpy())
            next_states.append(encoder.encode_next(batch.next_images).float().cpu().numpy())
            bar.update(len(states[-1]))
    return Transitions(
        np.concatenate(states),
        replay.windows.actions,
        replay.windows.rewards,
        np.concatenate(next_states),
        terminals,
        metadata={"n_step": replay.n_step, "n_step_discount": n_step_discount},
    )


def discounts_to_terminals(discounts: FloatArray, n_step_discount: float) -> FloatArray:
    """The column of discounts ``[N]`` as terminal flags; see the module."""
    terminals = 1 - discounts / np.float32(n_step_discount)
    flags = terminals.round().astype(np.float32)
    if (wrong := np.flatnonzero(np.abs(terminals - flags) > 1e-4)).size:
        raise TransitionError(
            f"the discount of row {wrong[0]} is {discounts[wrong[0]]}, expected 0 or "
            f"{n_step_discount}: discounts other than 0 and 1 in the data cannot be flags"
        )
    return np.abs(flags)


def discounts_of(terminals: NDArray[Any], n_step_discount: float) -> NDArray[Any]:
    """The way back: terminal flags as discounts, 0 or ``n_step_discount``."""
    return n_step_discount * (1 - terminals)


class FixedRows:
    """Uniform rows ``[count, row_dim]`` of a buffer at a time."""

    def __init__(self, buffer: RowBuffer, count: int, generator: torch.Generator) -> None:
        def draw(generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
            shape = (updates, count)
            return (
                torch.randint(len(buffer), shape, generator=generator, device=generator.device),
            )

        self._buffer, self._order = buffer, BlockStream(draw, [generator])

    def next(self) -> Tensor:
        return self._buffer.gather_rows(self._order.next()[0][0])

    def state_dict(self) -> dict[str, Any]:
        return self._order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._order.load_state_dict(state)


class GeneratedRows:
    """Rows ``[count, row_dim]`` of a model, ``parallel`` batches generated at a time, each used
    once."""

    def __init__(
        self, generate: GenerateRows, count: int, parallel: int, generator: torch.Generator
    ) -> None:
        self._generate, self._count, self._rows = generate, count, count * parallel
        self._generator = generator
        self._pool: Tensor | None = None
        self._position = 0

    def next(self) -> Tensor:
        if self._pool is None or self._position == self._rows:
            self._pool, self._position = self._generate(self._rows, self._generator), 0
        self._position += self._count
        return self._pool[self._position - self._count : self._position]

    def state_dict(self) -> dict[str, Any]:
        state = self._generator.get_state()
        return {"pool": self._pool, "position": self._position, "generator": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._pool, self._position = state["pool"], state["position"]
        self._generator.set_state(state["generator"].cpu())


class LatentSource:
    """Batches ``[1, B, ...]`` of latent transitions, a fixed number from each part."""

    def __init__(
        self, layout: TransitionLayout, parts: Sequence[FixedRows | GeneratedRows]
    ) -> None:
        self._layout, self._parts = layout, parts

    def sample(self) -> Batch:
        rows = torch.cat([part.next() for part in self._parts])
        return Batch(*self._layout.split(rows[None]).values())

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, stored in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(stored)


def latent_buffer(
    path: str | Path, layout: TransitionLayout, device: torch.device | str
) -> RowBuffer:
    """The rows of an ``.npz``, on the device.

    Raises:
        TransitionError: not transitions, or of other widths.
    """
    transitions = Transitions.load(path)
    buffer = RowBuffer(layout, max(1, len(transitions)), device)
    buffer.insert_transitions(transitions)
    return buffer

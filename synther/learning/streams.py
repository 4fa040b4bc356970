"""A seed's random numbers do not depend on which seeds train beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

Purpose = Literal["init", "data", "noise", "synthetic", "explore", "relevance", "mix"]
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

Draw = Callable[[torch.Generator, int], tuple[Tensor, ...]]
"""Random numbers of n updates of one seed: tensors ``[n, ...]``."""


def generators_for(
    seeds: Sequence[int], purpose: Purpose, device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """One generator a seed; those of different purposes are independent."""
    words = [
        np.random.SeedSequence([seed, _PURPOSES.index(purpose)]).generate_state(1) for seed in seeds
    ]
    return [torch.Generator(device).manual_seed(int(word[0])) for word in words]


CUDA_STATE_BYTES = 16
"""Of a CUDA generator's state: a seed and an offset."""


def random_members(total: int, count: float, generator: torch.Generator) -> Tensor:
    """Numbers of ``count`` of ``total`` members ``[M]``, every subset as likely as any other.

    A fractional ``count`` is the next whole number below or above it, and right on average. On CUDA
    M is then the higher one, and the smaller subset has its first member twice, for the host would
    wait for a shape: that is the same to a minimum over the members.
    """
    whole, device = int(count), generator.device
    chance = torch.rand((), generator=generator, device=device) if whole < count else None
    order = torch.randperm(total, generator=generator, device=device)
    if chance is None:
        return order[:whole]
    more = chance < count - whole
    if device.type == "cpu":
        return order[: whole + int(more)]
    last = torch.where(more, order[whole], order[0])
    return torch.cat([order[:whole], last[None]])


def restore_generators(
    generators: Sequence[torch.Generator], states: Sequence[Tensor | None]
) -> bool:
    """Put ``generators`` to ``states`` of a checkpoint, and say whether that was possible.

    A CPU and a GPU draw by different methods, whose states do not fit each other. A run that moves
    from one to the other goes on with the streams that its generators have, those of its seeds from
    their beginning, and one warning says so. None, in a file of an early version, is passed over.
    """
    pairs = [(own, each) for own, each in zip(generators, states, strict=True) if each is not None]
    sizes = {torch.Generator().get_state().numel(), CUDA_STATE_BYTES}
    if any(each.numel() in sizes - {own.get_state().numel()} for own, each in pairs):
        warnings.warn(
            "the checkpoint is of a run on another kind of device: the streams of random numbers "
            "begin anew from the seed",
            stacklevel=1,
        )
        return False
    for own, each in pairs:
        own.set_state(each.cpu())
    return True


def uniform_indices(size: int, batch_size: int) -> Draw:
    """Draws the numbers of a batch's rows, of ``size`` rows, with replacement."""

    def draw(generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
        shape = (updates, batch_size)
        return (torch.randint(size, shape, generator=generator, device=generator.device),)

    return draw


class BlockStream:
    """Hands out random numbers of one update at a time, drawn for a block of updates at once.

    A block costs one call a seed instead of one for every update, which counts on a GPU with many
    seeds. Its length is part of what a run draws, and so a constant.

    Args:
        draw: see ``Draw``.
        generators: one a seed.
    """

    BLOCK = 32

    def __init__(self, draw: Draw, generators: Sequence[torch.Generator]) -> None:
        self._draw = draw
        self._generators = generators
        self._values: tuple[Tensor, ...] = ()
        self._position = self.BLOCK
        self._states: list[Tensor] = []  # of the generators, before the block was drawn

    def next(self) -> tuple[Tensor, ...]:
        """Tensors ``[seeds, ...]`` of the next update."""
        if self._position == self.BLOCK:
            self._states = [each.get_state() for each in self._generators]
            self._fill()
            self._position = 0
        values = tuple(each[self._position] for each in self._values)
        self._position += 1
        return values

    def _fill(self) -> None:
        members = [self._draw(each, self.BLOCK) for each in self._generators]
        self._values = tuple(torch.stack(parts, dim=1) for parts in zip(*members, strict=True))

    def state_dict(self) -> dict[str, Any]:
        used_up = self._position == self.BLOCK
        states = [each.get_state() for each in self._generators] if used_up else self._states
        return {"states": states, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; of another kind of device, at the beginning of a block."""
        self._position = self.BLOCK
        if restore_generators(self._generators, state["states"]):
            self._states = [each.get_state() for each in self._generators]
            self._position = state["position"]
        if self._position < self.BLOCK:
            self._fill()

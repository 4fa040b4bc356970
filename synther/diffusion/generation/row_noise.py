"""Every generated row has noise of its own, whichever batch it is generated in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BLOCK_ROWS = 1024
"""The number of rows that share a generator. A seed gives other rows with another number."""


class RowNoise:
    """``noise(i) -> [stop - start, ...]``: unit Gaussian noise of rows ``start`` to ``stop`` of the
    endless sequence that a seed stands for, to be asked for with i = 0, 1, 2, ... in turn.

    Each block of ``BLOCK_ROWS`` rows has a generator of its own, seeded with (seed, block), and is
    always drawn whole, so that a row's noise does not depend on the rows generated with it.

    Args:
        seed: the seed of the sequence.
        start, stop: the rows.
        event_shape: the shape of one row.
        device: the device that draws the noise; another one gives other numbers.

    The tensor is used again: it holds its values until the next call.
    """

    def __init__(
        self,
        seed: int,
        start: int,
        stop: int,
        event_shape: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        first, last = start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)
        self._generators = [_generator(seed, block, device) for block in range(first, last)]
        whole = ((last - first) * BLOCK_ROWS, *event_shape)
        self._blocks = torch.empty(whole, device=device)
        offset = first * BLOCK_ROWS
        self._rows = self._blocks[start - offset : stop - offset]

    def __call__(self, step: int) -> Tensor:
        for block, generator in zip(self._blocks.split(BLOCK_ROWS), self._generators, strict=True):
            torch.randn(block.shape, out=block, generator=generator)
        return self._rows


def seed_or_drawn(seed: int | None, source: torch.Generator | None = None) -> int:
    """The seed, or one that is drawn from ``source``, torch's global generator where it is None."""
    if seed is not None:
        return seed
    device = "cpu" if source is None else source.device
    return int(torch.randint(2**62, (), generator=source, device=device))


def _generator(seed: int, block: int, device: torch.device | str) -> torch.Generator:
    state = np.random.SeedSequence((seed, block)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]) % 2**63)

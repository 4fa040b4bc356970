"""Several processes sample a batch each at a time, and all get the rows of all, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from synther.runs.processes import Processes


def batches_of(first: int, stop: int, size: int) -> list[tuple[int, int]]:
    """Rows ``first`` to ``stop`` in batches: the first row of each, and the last, exclusive."""
    return [(at, min(at + size, stop)) for at in range(first, stop, size)]


def rounds(
    batches: Sequence[tuple[int, int]],
    draw: Callable[[int, int], Tensor],
    message: Tensor,
    processes: Processes,
) -> Iterator[Tensor]:
    """The rows of ``batches``, on every process: a batch of each process a round.

    Args:
        batches: the first row of each, and the last, exclusive; none is longer than the first.
        draw: gives the rows of a batch.
        message: an empty tensor of the first batch's shape and device; messages have one size.
        processes: which draw, each with the same arguments.
    """
    for at in range(0, len(batches), processes.count):
        sizes = [stop - start for start, stop in batches[at : at + processes.count]]
        mine = batches[at + processes.rank : at + processes.rank + 1]
        for start, stop in mine:
            message[: stop - start] = draw(start, stop)
        parts = zip(processes.gather(message), sizes, strict=False)
        yield torch.cat([rows[:size] for rows, size in parts])

"""Matrix products: how many operations they are in a piece of work, and how fast bare ones are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

SQUARE = 256
"""Rows and columns of a bare product's factors."""

Work = Callable[[int], object]
"""Does so many units of something."""


def operations_of(work: Callable[[], object]) -> int:
    """Multiplications and additions of every matrix product in a call of ``work``, eager."""

    def in_place(total: Any, left: Any, right: Any, **_: Any) -> int:
        return int(2 * left[0] * left[1] * right[1])

    own = {torch.ops.aten.addmm_: in_place}  # which torch's counter passes over
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        work()
    return int(counter.get_total_flops())


def bare_products(device: torch.device) -> Work:
    """A hundred products for each unit."""
    left, right = torch.randn(2, SQUARE, SQUARE, device=device).unbind()
    out = torch.empty_like(left)

    def work(units: int) -> None:
        for _ in range(100 * units):
            torch.mm(left, right, out=out)

    return work


def rate_of(seconds: Any) -> Any:
    """Operations a second of :func:`bare_products`, for the seconds of a unit."""
    return 100 * 2 * SQUARE**3 / seconds


def seconds_of(work: Work, units: int, device: torch.device) -> float:
    """Seconds of a unit."""
    started = time.perf_counter()
    work(units)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / units

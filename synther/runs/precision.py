"""A run's precision is settled once, by what its device has units for."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from synther.runs.runtime import Precision, check_precision, say_once

_SIZE, _SECONDS = 256, 0.02
"""Rates are taken of products of this size, for so long each."""


def multiplies_bf16_fast(device: torch.device) -> bool:
    """Say whether the device has units for products in bfloat16; a device without them is slower in
    bfloat16 than in float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def settled(precision: Precision, device: torch.device) -> Precision:
    """The precision that a run on ``device`` computes in: of ``auto``, bf16 where the device has
    units for it and fp32 elsewhere, which a process prints once. Asking for bf16 where it has none
    is taken at its word, with a warning that says the rates of products in both.

    Raises:
        ValueError: no such precision.
    """
    check_precision(precision)
    if precision == "auto":
        fast = multiplies_bf16_fast(device)
        say_once(
            f"precision auto is {'bf16' if fast else 'fp32'}: {device} has "
            f"{'units' if fast else 'no units'} for products in bfloat16"
        )
        return "bf16" if fast else "fp32"
    if precision == "bf16" and not multiplies_bf16_fast(device):
        full, half = rates(device)
        warnings.warn(
            f"precision bf16: {device} has no units for it; products of {_SIZE} numbers a side run "
            f"at {full:.3g} GFLOP/s in float32 and at {half:.3g} in bfloat16. Use fp32, or auto, "
            "which is bf16 where that is faster",
            stacklevel=3,
        )
    return precision


@functools.cache
def rates(device: torch.device) -> tuple[float, float]:
    """GFLOP/s of products of matrices in float32 and in bfloat16, as they are at the moment."""
    full, half = (
        _rate(torch.ones(_SIZE, _SIZE, dtype=kind, device=device))
        for kind in (torch.float32, torch.bfloat16)
    )
    return full, half


def _rate(matrix: torch.Tensor) -> float:
    def wait() -> None:
        if matrix.device.type == "cuda":
            torch.cuda.synchronize(matrix.device)

    matrix @ matrix  # the first one also chooses the kernel
    wait()
    products, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < _SECONDS:
        matrix @ matrix
        wait()
        products += 1
    return 2 * _SIZE**3 * products / seconds / 1e9

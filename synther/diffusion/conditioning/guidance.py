"""Guidance wraps the denoiser, so that whatever samples with it follows a condition."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class ConditionalDenoiser(Protocol):
    """``D(x [B, D], sigma, cond [B, C])``, in model space."""

    def __call__(self, x: Tensor, sigma: float, cond: Tensor | None) -> Tensor: ...


class Guided:
    """``D_u + w (D_c - D_u)``: classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598, in
    whose equation 6 the weight is w - 1).

    A weight of 1 is the conditional denoiser and 0 the unconditional one, each for one network call
    and bit for bit; any other costs two. More than 1 goes beyond the condition's own distribution,
    towards rows that only it makes likely.

    Args:
        denoise: ``D``; zeros in place of its condition make it unconditional.
        cond: what samples are asked for ``[B, C]``, as the network sees it.
        weight: w.
    """

    def __init__(self, denoise: ConditionalDenoiser, cond: Tensor, weight: float) -> None:
        self.denoise, self.cond, self.weight = denoise, cond, weight
        self.nothing = torch.zeros_like(cond)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        if self.weight == 1:
            return self.denoise(x, sigma, self.cond)
        unconditional = self.denoise(x, sigma, self.nothing)
        if self.weight == 0:
            return unconditional
        conditional = self.denoise(x, sigma, self.cond)
        return unconditional + self.weight * (conditional - unconditional)

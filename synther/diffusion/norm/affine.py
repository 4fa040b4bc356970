"""The two affine maps of the 2023 release: the z-score, and the range to [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from synther.diffusion.norm.base import BaseNormalizer


class AffineNormalizer(BaseNormalizer):
    """An affine map a column, ``y = (x - offset) / scale``."""

    def normalize(self, x: Tensor) -> Tensor:
        offset, scale = self._offset_and_scale()
        return (x - offset) / scale

    def unnormalize(self, x: Tensor) -> Tensor:
        offset, scale = self._offset_and_scale()
        return x * scale + offset

    def log_determinant(self, x: Tensor) -> Tensor:
        """The same number for every row: ``-sum log(scale)``."""
        return (-self._offset_and_scale()[1].log().sum()).expand(x.shape[:-1])

    @property
    def dim(self) -> int:
        return self._offset_and_scale()[0].shape[0]

    def _offset_and_scale(self) -> tuple[Tensor, Tensor]:
        """Each ``[D]``, float32; 0 and 1 in skipped columns."""
        raise NotImplementedError


class Normalizer(AffineNormalizer):
    """``(x - mean) / (std + 1e-5)``, std with Bessel's correction; a constant column becomes 0.

    The buffer ``std`` holds the sum ``std + 1e-5``, in files as well; a skipped column has mean 0
    and std 1.
    """

    mean: Tensor
    std: Tensor
    eps = 1e-5

    def _fit(self, rows: Tensor) -> dict[str, Tensor]:
        mean = _each_column(rows, torch.mean)
        std = _each_column(rows, torch.std) if len(rows) > 1 else torch.zeros_like(mean)
        std += self.eps
        columns = list(self.skip_dims)
        mean[columns], std[columns] = 0.0, 1.0
        return {"mean": mean.float(), "std": std.float()}

    def _offset_and_scale(self) -> tuple[Tensor, Tensor]:
        return self.mean, self.std


class MinMaxNormalizer(AffineNormalizer):
    """The range of each column to [-1, 1], its upper end moved out by 1e-5; a constant column
    becomes -1. The stored range of a skipped column is [-1, 1], which makes it the identity."""

    min: Tensor
    max: Tensor
    eps = 1e-5

    def _fit(self, rows: Tensor) -> dict[str, Tensor]:
        low, high = (_each_column(rows, bound) for bound in (torch.amin, torch.amax))
        columns = list(self.skip_dims)
        # Where float32 cannot hold low + 1e-5, a constant column's range would be empty.
        smallest_span = low.abs().mul(1e-6).clamp(min=self.eps)
        high = torch.maximum(high + self.eps, low + smallest_span)
        low[columns], high[columns] = -1.0, 1.0
        return {"min": low.float(), "max": high.float()}

    def clamp(self, x: Tensor) -> Tensor:
        """Into [-1, 1], except for skipped columns, whose values are not confined to it."""
        skipped = (self.min == -1) & (self.max == 1)
        return torch.where(skipped, x, x.clamp(-1, 1))

    @property
    def clamps(self) -> bool:
        return True

    def _offset_and_scale(self) -> tuple[Tensor, Tensor]:
        return (self.max + self.min) / 2, (self.max - self.min) / 2


def _each_column(rows: Tensor, statistic: Callable[[Tensor], Tensor]) -> Tensor:
    """A statistic of every column ``[D]`` in float64, without a float64 copy of all rows."""
    return torch.stack([statistic(column.double()) for column in rows.unbind(dim=1)])

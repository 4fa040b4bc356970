"""Per-column maps between data and the range that the diffusion model works in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

NormalizerType = Literal["standard", "minmax"]


class BaseNormalizer(nn.Module):
    """An affine map a column, ``y = (x - offset) / scale``, fitted to data.

    Args:
        data: rows ``[N, D]`` (tensor or array) that the statistics are taken from, in float64.
        skip_dims: columns that the map leaves as they are; negative ones count from the end.

    Raises:
        ValueError: data that is not ``[N, D]`` with a row or more, a column that is not finite, or
            a skipped column that does not exist.
    """

    skip_dims: tuple[int, ...]

    def __init__(self, data: Any, skip_dims: Iterable[int] = ()) -> None:
        super().__init__()
        rows = _as_rows(data)
        self.skip_dims = _checked_columns(skip_dims, rows.shape[1])
        for name, statistic in self._fit(rows).items():
            self.register_buffer(name, statistic)

    @torch.no_grad()
    def reset(self, data: Any) -> None:
        """Fit to other rows ``[N, D]``, keeping the skipped columns, in place."""
        rows = _as_rows(data)
        if rows.shape[1] != self.dim:
            raise ValueError(f"data has {rows.shape[1]} columns, the normaliser {self.dim}")
        for name, statistic in self._fit(rows).items():
            self.get_buffer(name).copy_(statistic)

    def normalize(self, x: Tensor) -> Tensor:
        """Data ``[..., D]`` -> model space; a new tensor."""
        offset, scale = self._offset_and_scale()
        return (x - offset) / scale

    def unnormalize(self, x: Tensor) -> Tensor:
        """Model space ``[..., D]`` -> data; a new tensor."""
        offset, scale = self._offset_and_scale()
        return x * scale + offset

    def log_determinant(self) -> Tensor:
        """``log |det d normalize(x) / dx|``, a scalar: to be added to a log-density in model space
        to have the log-density of the data."""
        return -self._offset_and_scale()[1].log().sum()

    def clamp(self, x: Tensor) -> Tensor:
        """``x [..., D]`` kept to the range of model space, where there is one."""
        return x

    @property
    def clamps(self) -> bool:
        """Whether model space is bounded, so that samples are kept to it."""
        return False

    @property
    def dim(self) -> int:
        """D, the columns of a row."""
        return self._offset_and_scale()[0].shape[0]

    def _fit(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows -> buffers ``[D]`` float32 by name, skipped columns included."""
        raise NotImplementedError

    def _offset_and_scale(self) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Normalizer(BaseNormalizer):
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


class MinMaxNormalizer(BaseNormalizer):
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


NORMALIZERS: dict[str, type[BaseNormalizer]] = {
    "standard": Normalizer,
    "minmax": MinMaxNormalizer,
}


def normalizer_factory(
    normalizer_type: NormalizerType, data: Any, skip_dims: Iterable[int] = ()
) -> BaseNormalizer:
    """The normaliser of that name, ``standard`` or ``minmax``, fitted to rows ``[N, D]``."""
    if normalizer_type not in NORMALIZERS:
        raise ValueError(
            f"normalizer_type '{normalizer_type}': expected {' or '.join(NORMALIZERS)}"
        )
    return NORMALIZERS[normalizer_type](data, skip_dims)


def _as_rows(data: Any) -> Tensor:
    rows = torch.as_tensor(np.asarray(data) if isinstance(data, Sequence) else data)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(
            f"data has shape {tuple(rows.shape)}, expected [rows, columns], a row or more"
        )
    finite = rows.isfinite().all(dim=0)
    if not finite.all():
        raise ValueError(f"column {int((~finite).nonzero()[0])} of the data is not finite")
    return rows.detach()


def _each_column(rows: Tensor, statistic: Callable[[Tensor], Tensor]) -> Tensor:
    """A statistic of every column ``[D]`` in float64, without a float64 copy of all rows."""
    return torch.stack([statistic(column.double()) for column in rows.unbind(dim=1)])


def _checked_columns(columns: Iterable[int], dim: int) -> tuple[int, ...]:
    columns = tuple(int(column) for column in columns)
    for column in columns:
        if not -dim <= column < dim:
            raise ValueError(f"skip_dims names column {column}, rows have {dim}")
    return tuple(sorted({column % dim for column in columns}))

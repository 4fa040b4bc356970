"""What every map between data and the model's space can do, and the checks of its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class BaseNormalizer(nn.Module):
    """An invertible map of rows, fitted to data, that is part of the model and of its checkpoint.

    Its state has the same shapes whatever it was fitted to, so that it can be fitted again in place
    and loaded without the data.

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
        rows = as_rows(data)
        self.skip_dims = checked_columns(skip_dims, rows.shape[1])
        for name, statistic in self._fit(rows).items():
            self.register_buffer(name, statistic)

    @torch.no_grad()
    def reset(self, data: Any) -> None:
        """Fit to other rows ``[N, D]``, keeping the skipped columns, in place."""
        rows = as_rows(data)
        if rows.shape[1] != self.dim:
            raise ValueError(f"data has {rows.shape[1]} columns, the normaliser {self.dim}")
        for name, statistic in self._fit(rows).items():
            self.get_buffer(name).copy_(statistic)

    def normalize(self, x: Tensor) -> Tensor:
        """Data ``[..., D]`` -> model space; a new tensor."""
        raise NotImplementedError

    def unnormalize(self, x: Tensor) -> Tensor:
        """Model space ``[..., D]`` -> data; a new tensor."""
        raise NotImplementedError

    def log_determinant(self, x: Tensor) -> Tensor:
        """``log |det d normalize(x) / dx|`` at rows ``[..., D]`` of data, ``[...]``: to be added to
        a log-density in model space to have the log-density of the data."""
        raise NotImplementedError

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
        raise NotImplementedError

    @property
    def arguments(self) -> dict[str, Any]:
        """What the constructor takes beside data and ``skip_dims``, as plain values for a
        checkpoint."""
        return {}

    def _fit(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows -> the buffers by name."""
        raise NotImplementedError


def as_rows(data: Any) -> Tensor:
    """Data as a tensor ``[N, D]``, checked."""
    rows = torch.as_tensor(np.asarray(data) if isinstance(data, Sequence) else data)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(
            f"data has shape {tuple(rows.shape)}, expected [rows, columns], a row or more"
        )
    finite = rows.isfinite().all(dim=0)
    if not finite.all():
        raise ValueError(f"column {int((~finite).nonzero()[0])} of the data is not finite")
    return rows.detach()


def checked_columns(columns: Iterable[int], dim: int) -> tuple[int, ...]:
    """Numbers of columns, each from 0 to ``dim - 1``, sorted and once each."""
    columns = tuple(int(column) for column in columns)
    for column in columns:
        if not -dim <= column < dim:
            raise ValueError(f"skip_dims names column {column}, rows have {dim}")
    return tuple(sorted({column % dim for column in columns}))

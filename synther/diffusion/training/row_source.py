"""Training batches are drawn by index, on the device that holds the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from synther.runs.runtime import fits_on_device, to_device


class RowSource:
    """Rows ``[N, D]`` float32, drawn uniformly and with replacement.

    Rows that are float32 on the device are not copied: what is written to them later is drawn.

    Args:
        dataset: a tensor or array, or a ``TensorDataset`` that holds one; None where
            :meth:`replace` brings the rows.
        device: the device that batches appear on, and that holds the rows where they fit.
        seed: the seed of the order.
        all_agree: says whether a yes is every process's, where several draw the same batches: rows
            on the host and rows on the device are drawn by different generators.

    Raises:
        ValueError: not ``[N, D]`` with a row or more, or values that are not finite.
    """

    def __init__(
        self,
        dataset: Any,
        device: torch.device,
        seed: int,
        all_agree: Callable[[bool], bool] = bool,
    ) -> None:
        self.device = device
        self.seed = seed
        self.all_agree = all_agree
        self.rows = torch.empty(0, 0, device=device)
        self.generator = torch.Generator(device).manual_seed(seed)
        if dataset is not None:
            self.replace(dataset)

    def replace(self, dataset: Any) -> None:
        """Draw from other rows from now on; the order's generator goes on where it stands."""
        if isinstance(dataset, torch.utils.data.TensorDataset):
            (dataset,) = dataset.tensors
        rows = torch.as_tensor(dataset, dtype=torch.float32)
        if rows.ndim != 2 or len(rows) == 0:
            raise ValueError(f"dataset has shape {tuple(rows.shape)}, expected [rows, columns]")
        if not (finite := rows.isfinite().all(dim=1)).all():
            raise ValueError(f"row {int((~finite).nonzero()[0])} of the dataset is not finite")
        on_device = self.all_agree(
            rows.device == self.device or fits_on_device(rows.nbytes, self.device)
        )
        self.rows = rows.to(self.device) if on_device else rows.cpu()
        if self.generator.device.type != self.rows.device.type:
            self.generator = torch.Generator(self.rows.device).manual_seed(self.seed)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, batch_size: int) -> Tensor:
        """The next batch ``[batch_size, D]``, on the device."""
        chosen = torch.randint(
            len(self.rows), (batch_size,), generator=self.generator, device=self.rows.device
        )
        batch = self.rows.index_select(0, chosen)
        same = batch.device.type == self.device.type
        return batch if same else to_device(batch, self.device)

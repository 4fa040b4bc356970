"""Rows are held on the device in a ring buffer, inserted in batches and sampled by one gather."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from synther.transitions import TransitionLayout, Transitions


class Batch(NamedTuple):
    """A batch is what every algorithm's update takes; in training its leading axes are
    ``[seeds, B]``.

    ``states [..., B, O]``, ``actions [..., B, A]``, ``rewards [..., B, 1]``,
    ``next_states [..., B, O]``, ``dones [..., B, 1]``: rewards and dones keep their last axis, so
    that a target ``r + (1 - d) * Q`` with ``Q [..., B, 1]`` can never broadcast to ``[B, B]``.
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor
    dones: Tensor


class RowBuffer:
    """A ring of rows ``[capacity, row_dim]`` on the device; the oldest rows are overwritten first.

    Args:
        layout: of a row; it models terminals, since an agent needs them.
        capacity: rows held at most.
        device: where they are held and where batches appear.
    """

    def __init__(
        self, layout: TransitionLayout, capacity: int, device: torch.device | str = "cpu"
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected 1 or more")
        if not layout.terminals:
            raise ValueError("a buffer for agents needs a layout with a terminal column")
        self.layout = layout
        self.capacity = capacity
        self.rows = torch.empty(capacity, layout.row_dim, device=device)
        self.size = 0
        self._next = 0

    @classmethod
    def holding(cls, layout: TransitionLayout, rows: Tensor) -> RowBuffer:
        """A buffer that is full of ``rows [N, row_dim]``, on their device; N is 1 or more."""
        buffer = cls(layout, len(rows), rows.device)
        buffer.insert(rows)
        return buffer

    def __len__(self) -> int:
        return self.size

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def insert(self, rows: Tensor) -> None:
        """Append rows ``[N, row_dim]``, wrapping around; only the last ``capacity`` stay."""
        if rows.ndim != 2 or rows.shape[1] != self.layout.row_dim:
            raise ValueError(
                f"rows of shape {tuple(rows.shape)}, expected [N, {self.layout.row_dim}]"
            )
        count = len(rows)
        skipped = max(0, count - self.capacity)
        start = (self._next + skipped) % self.capacity
        kept = rows[skipped:].to(self.device, self.rows.dtype)
        first = min(len(kept), self.capacity - start)
        self.rows[start : start + first] = kept[:first]
        self.rows[: len(kept) - first] = kept[first:]
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def insert_transitions(self, transitions: Transitions) -> None:
        """Append all of ``transitions``."""
        self.insert(torch.from_numpy(self.layout.pack(transitions)))

    def clear(self) -> None:
        """Forget every row."""
        self.size = 0
        self._next = 0

    def valid_rows(self) -> Tensor:
        """A view of the rows held ``[size, row_dim]``, in storage order."""
        return self.rows[: self.size]

    def draw_indices(self, batch_size: int, generators: list[torch.Generator]) -> Tensor:
        """Uniform indices ``[seeds, batch_size]``, one generator a seed, on this device."""
        if self.size == 0:
            raise ValueError("the buffer is empty, nothing to sample")
        drawn = [
            torch.randint(self.size, (batch_size,), generator=generator, device=self.device)
            for generator in generators
        ]
        return torch.stack(drawn)

    def gather(self, indices: Tensor) -> Batch:
        """The rows at ``indices [...]`` as a batch with leading axes ``[...]``; one gather."""
        return Batch(*self.layout.split(self.gather_rows(indices)).values())

    def gather_rows(self, indices: Tensor) -> Tensor:
        """The rows at ``indices [...]``, ``[..., row_dim]``."""
        return self.rows.index_select(0, indices.reshape(-1)).view(*indices.shape, -1)

    def sample(self, batch_size: int, generators: list[torch.Generator]) -> Batch:
        """A uniform batch ``[seeds, batch_size, ...]``."""
        return self.gather(self.draw_indices(batch_size, generators))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.valid_rows().clone(), "size": self.size, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["size"] > self.capacity:
            raise ValueError(f"{state['size']} stored rows do not fit the capacity {self.capacity}")
        self.rows[: state["size"]] = state["rows"].to(self.device)
        self.size, self._next = state["size"], state["next"]


def sample_mixed(*parts: tuple[RowBuffer, int, torch.Generator], batches: int) -> Batch:
    """Uniform batches ``[1, batches, B, ...]`` of rows from several buffers.

    Args:
        parts: buffers of one layout; how many rows of it are in every batch, an exact number; and
            the generator of their indices. A batch has the first buffer's rows first.
        batches: how many; all rows of a buffer come in one gather.
    """
    rows = [
        buffer.gather_rows(
            buffer.draw_indices(batches * count, [generator]).unflatten(1, (batches, count))
        )
        for buffer, count, generator in parts
        if count
    ]
    return Batch(*parts[0][0].layout.split(torch.cat(rows, dim=2)).values())

"""A replay of pictures hands out stacks with n-step returns, from episodes that may lie on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.datasets.vd4rl import PixelEpisodes
from synther.learning.streams import BlockStream
from synther.runs.runtime import fits_on_device, to_device
from synther.transitions import FloatArray, TransitionError

UPLOADED_AT_ONCE = 4096
"""Pictures that are decoded and moved to a GPU together."""


class PixelBatch(NamedTuple):
    """``images``, ``next_images`` uint8 ``[B, 3 * frames, H, W]``, ``actions [1, B, A]``, n-step
    ``rewards [1, B, 1]`` and ``discounts [1, B, 1]`` of the value after them."""

    images: Tensor
    actions: Tensor
    rewards: Tensor
    next_images: Tensor
    discounts: Tensor


class Windows(NamedTuple):
    """All spans of n steps that lie within an episode, W of them.

    Attributes:
        rows: ``[W]``, of the observation at which a span begins; the next one is n rows later.
        actions: ``[W, A]``, the first of the span.
        rewards: ``[W]``, ``sum_k gamma^k (prod_{j<k} d_j) r_k``.
        discounts: ``[W]``, ``gamma^n prod_k d_k``.
    """

    rows: NDArray[np.int64]
    actions: FloatArray
    rewards: FloatArray
    discounts: FloatArray


def windows_of(episodes: PixelEpisodes, n_step: int, discount: float) -> Windows:
    """The spans of ``n_step`` steps; the last n - 1 observations of an episode begin none, as in
    DrQ-v2's replay.

    Raises:
        TransitionError: no episode is so long.
    """
    count = len(episodes)
    rows = np.arange(max(0, count - n_step))
    rows = rows[episodes.starts[rows] == episodes.starts[rows + n_step]]
    if not len(rows):
        raise TransitionError(f"{episodes.source}: no episode has {n_step} steps")
    rewards, discounts = np.zeros(len(rows)), np.ones(len(rows))
    for k in range(1, n_step + 1):  # row i + k holds the k-th step after row i
        rewards += discounts * episodes.rewards[rows + k]
        discounts *= discount * episodes.discounts[rows + k]
    return Windows(
        rows,
        episodes.actions[rows + 1],
        rewards.astype(np.float32),
        discounts.astype(np.float32),
    )


def stacked(episodes: PixelEpisodes, rows: NDArray[np.int64], frames: int) -> NDArray[np.uint8]:
    """The last ``frames`` pictures up to each of ``rows [B]``, ``[B, 3 * frames, H, W]``, oldest
    first; an episode's first picture stands in for those before it."""
    images = episodes.gather(rows_of_stacks(episodes, rows, frames))
    return images.reshape(len(rows), -1, *images.shape[-2:])


def rows_of_stacks(
    episodes: PixelEpisodes, rows: NDArray[np.int64], frames: int
) -> NDArray[np.int64]:
    """The rows ``[B, frames]`` of the pictures that :func:`stacked` stacks."""
    back = np.arange(frames - 1, -1, -1)
    return np.maximum(rows[:, None] - back, episodes.starts[rows][:, None])


class FrameReplay:
    """Uniform batches of windows; only the pictures of a batch are ever decoded or moved.

    On a GPU all pictures are in its memory, where they fit, and the host waits for no batch.

    Args:
        episodes: pictures and the rest.
        frame_stack, n_step, discount: see :func:`stacked` and :func:`windows_of`.
        batch_size: B.
        generator: of the order, on the CPU.
        device: where batches appear.
    """

    def __init__(
        self,
        episodes: PixelEpisodes,
        *,
        frame_stack: int,
        n_step: int,
        discount: float,
        batch_size: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        self.episodes, self.frame_stack, self.n_step = episodes, frame_stack, n_step
        self.windows = windows_of(episodes, n_step, discount)
        self.batch_size, self.device = batch_size, torch.device(device)
        self._pictures = _pictures_on(self.device, episodes)
        columns = (self.windows.actions, self.windows.rewards, self.windows.discounts)
        self._columns = [torch.from_numpy(each).to(device) for each in columns]

        def draw(generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
            return (torch.randint(len(self), (updates, batch_size), generator=generator),)

        self._order = BlockStream(draw, [generator])

    def __len__(self) -> int:
        return len(self.windows.rows)

    def sample(self) -> PixelBatch:
        """A batch; see :class:`PixelBatch`."""
        (indices,) = self._order.next()
        return self.gather(indices[0].numpy())

    def gather(self, indices: NDArray[np.int64]) -> PixelBatch:
        """The windows of these numbers ``[B]``."""
        rows = self.windows.rows[indices]
        images, next_images = (self._stacked(each) for each in (rows, rows + self.n_step))
        chosen = to_device(torch.from_numpy(indices), self.device)
        actions, rewards, discounts = (
            each.index_select(0, chosen).reshape(1, len(indices), -1) for each in self._columns
        )
        return PixelBatch(images, actions, rewards, next_images, discounts)

    def _stacked(self, rows: NDArray[np.int64]) -> Tensor:
        """:func:`stacked` on the device, of its pictures or of those that the host moves there."""
        if self._pictures is None:
            gathered = stacked(self.episodes, rows, self.frame_stack)
            return to_device(torch.from_numpy(gathered), self.device)
        chosen = torch.from_numpy(rows_of_stacks(self.episodes, rows, self.frame_stack))
        images = self._pictures.index_select(0, to_device(chosen.flatten(), self.device))
        return images.view(len(rows), -1, *images.shape[-2:])

    def batches(self, size: int) -> Iterator[PixelBatch]:
        """All windows once, in their order."""
        for start in range(0, len(self), size):
            yield self.gather(np.arange(start, min(start + size, len(self))))

    def metrics(self, updates_per_second: float) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return self._order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._order.load_state_dict(state)


def _pictures_on(device: torch.device, episodes: PixelEpisodes) -> Tensor | None:
    """All pictures ``[N, 3, H, W]`` in a GPU's memory; None on a CPU and where they do not fit."""
    size = sum(each.nbytes for each in episodes.images)
    if device.type != "cuda" or not fits_on_device(size, device):
        return None
    shape = (len(episodes), *episodes.images[0].shape[1:])
    pictures = torch.empty(shape, dtype=torch.uint8, device=device)
    for part in np.array_split(np.arange(len(episodes)), -(-len(episodes) // UPLOADED_AT_ONCE)):
        pictures[part[0] : part[-1] + 1] = torch.from_numpy(episodes.gather(part)).to(device)
    return pictures

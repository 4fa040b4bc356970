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
from synther.transitions import FloatArray, TransitionError


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
    back = np.arange(frames - 1, -1, -1)
    chosen = np.maximum(rows[:, None] - back, episodes.starts[rows][:, None])
    images = episodes.gather(chosen)
    return images.reshape(len(rows), -1, *images.shape[-2:])


class FrameReplay:
    """Uniform batches of windows; only the pictures of a batch are ever decoded or moved.

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
        self.batch_size, self.device = batch_size, device

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
        images = stacked(self.episodes, rows, self.frame_stack)
        next_images = stacked(self.episodes, rows + self.n_step, self.frame_stack)
        columns = (self.windows.actions, self.windows.rewards, self.windows.discounts)
        actions, rewards, discounts = (
            torch.from_numpy(each[indices]).reshape(1, len(indices), -1).to(self.device)
            for each in columns
        )
        moved = (torch.from_numpy(each).to(self.device) for each in (images, next_images))
        first, following = moved
        return PixelBatch(first, actions, rewards, following, discounts)

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

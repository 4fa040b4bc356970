"""A drawing gives the rows of one request: what they are asked for, and their last stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generation.asked import Asked
from synther.diffusion.generation.consistency import ATTEMPTS, ConsistentRows
from synther.diffusion.generation.errors import SamplingError
from synther.diffusion.generation.row_noise import RowNoise
from synther.runs import runtime
from synther.transitions import FIELDS, TransitionLayout

Array = NDArray[np.float32]
FiveArrays = tuple[Array, Array, Array, Array, Array]


class Sampling(NamedTuple):
    """How rows are drawn, whatever they are asked for.

    Args:
        model: with its sampler.
        num_sample_steps: of the sampler.
        precision: of the network's products, but in :meth:`Drawing.at_once`.
        finish: makes rows ``[n, 2 O + A + 2]`` of what the model gave ``[n, D]``, all of it finite.
    """

    model: ElucidatedDiffusion
    num_sample_steps: int
    precision: runtime.Precision
    finish: Callable[[Tensor], Tensor]


class Drawing:
    """Draws rows ``[n, 2 O + A + 2]`` from a model.

    Args:
        sampling: how.
        asked: what the rows are asked for; None: rows as they come.
        stage: what makes them consistent; None: nothing.
    """

    def __init__(
        self, sampling: Sampling, asked: Asked | None, stage: ConsistentRows | None = None
    ) -> None:
        self.model, self.num_sample_steps, self.precision, self._finish = sampling
        self.asked, self.stage = asked, stage

    @torch.no_grad()
    def at_once(self, count: int, generator: torch.Generator | None, start: int = 0) -> Tensor:
        """``count`` rows in one call of the model, whose noise comes from ``generator``.

        Args:
            count: how many.
            generator: on the model's device.
            start: the first of them, in what the rows are asked for.
        """

        def sampled(numbers: Tensor | None) -> Tensor:
            asked = self._arguments(start, start + count, numbers)
            size = count if numbers is None else len(numbers)
            return self._finished(
                self.model.sample(size, self.num_sample_steps, generator=generator, **asked)
            )

        stage = self.stage
        if stage is None:
            return sampled(None)

        def draw(attempt: int, numbers: Tensor | None) -> tuple[Tensor, Tensor]:
            rows = sampled(numbers)
            shape = (len(rows), stage.chances)
            return rows, torch.rand(shape, generator=generator, device=rows.device)

        return stage.rows(draw)

    @torch.no_grad()
    def batch(self, start: int, stop: int, seed: int) -> Tensor:
        """Rows ``start`` to ``stop`` of the endless sequence of a seed."""
        stage = self.stage
        if stage is None:
            return self.sampled(start, stop, seed)
        # Drawn again, a row has noise that is its own as well: another seed's.
        seeds = np.random.SeedSequence((seed, 1)).generate_state(2 * ATTEMPTS, np.uint64)
        of_rows, of_chances = [seed, *map(int, seeds[1:ATTEMPTS])], seeds[ATTEMPTS:]
        shape, device = (stage.chances,), self.model.device

        def draw(attempt: int, numbers: Tensor | None) -> tuple[Tensor, Tensor]:
            rows = self.sampled(start, stop, of_rows[attempt], numbers)
            noise = RowNoise(int(of_chances[attempt]), start, stop, shape, device)(0)
            return rows, torch.special.ndtr(noise if numbers is None else noise[numbers])

        return stage.rows(draw)

    def sampled(self, start: int, stop: int, seed: int, numbers: Tensor | None = None) -> Tensor:
        """Rows ``start`` to ``stop`` as the model gives them, or of these the ``numbers``."""
        whole = RowNoise(seed, start, stop, self.model.event_shape, self.model.device)
        count, noise = stop - start, whole.__call__
        if numbers is not None:
            count, noise = len(numbers), lambda step: whole(step)[numbers]
        asked = self._arguments(start, stop, numbers)
        with runtime.float32_products(self.model.device, self.precision):
            raw = self.model.sample(count, self.num_sample_steps, noise=noise, **asked)
        return self._finished(raw)

    def settings(self) -> dict[str, Any]:
        """What the rows depend on beside the generator, as plain values."""
        settings: dict[str, Any] = {}
        if self.asked:
            settings["asked"] = self.asked.settings()
        if self.stage:
            settings["consistency"] = self.stage.settings()
        return settings

    def _arguments(self, start: int, stop: int, numbers: Tensor | None) -> dict[str, Any]:
        if self.asked is None:
            return {}
        return self.asked.arguments(start, stop, numbers, self.model.device)

    def _finished(self, raw: Tensor) -> Tensor:
        bad = ~raw.isfinite().all(dim=1)
        if bad.any():
            raise SamplingError(
                f"{int(bad.sum())} of {len(raw)} generated rows are not finite, first row "
                f"{int(bad.nonzero()[0])}; the model may have diverged in training: use an earlier "
                "checkpoint, or fp32"
            )
        return self._finish(raw)


def five_arrays(rows: Array, layout: TransitionLayout) -> FiveArrays:
    """Rows ``[N, 2 O + A + 2]`` of ``layout`` -> observations ``[N, O]``, actions ``[N, A]``,
    rewards ``[N]``, next observations ``[N, O]``, terminals ``[N]``."""
    columns, flat = layout.columns, ("rewards", "terminals")
    arrays = (rows[:, columns[name].start if name in flat else columns[name]] for name in FIELDS)
    return tuple(map(np.ascontiguousarray, arrays))  # type: ignore[return-value]

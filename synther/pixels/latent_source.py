"""Rows that heads are fine-tuned on: latents of the agent's own encoder, real or synthetic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from synther.diffusion.generation.on_the_fly import rows_of_model
from synther.learning.replay import RowBuffer
from synther.learning.sources import (
    DiffusionGenerator,
    MixedSource,
    ReplayBuffer,
    RowSource,
    rows_of_share,
)
from synther.learning.streams import generators_for
from synther.pixels.config import PixelConfig
from synther.transitions import TransitionError, TransitionLayout, Transitions


def latent_source(
    config: PixelConfig, layout: TransitionLayout, device: torch.device, encoder: str
) -> MixedSource:
    """Batches of synthetic latents, ``mix`` of them real.

    Raises:
        ValueError: no path, or a mix without the real latents.
        ConfigError: a mix that is no row of a batch, or all rows.
        TransitionError: rows of other widths than the agent's, or of another ``encoder``.
    """
    path = config.diffusion.path
    if path is None:
        raise ValueError("--load_agent needs --diffusion.path: latents (.npz) or a model (.pt)")
    real = rows_of_share(config.mix, config.batch_size, "mix")
    if real and config.latents is None:
        raise ValueError(f"--mix {config.mix} needs --latents: the real ones, of encode.py")
    parts: list[RowSource] = []
    if synthetic := config.batch_size - real:
        noise = generators_for([config.seed], "synthetic", device)
        if path.endswith(".pt"):
            generate = rows_of_model(
                path,
                layout,
                device,
                num_steps=config.diffusion.num_steps,
                sampler=config.diffusion.sampler,
                threads=config.threads,
            )
            learnt = generate.trained_on
            _require_encoder(path, learnt.to_plain() if learnt else {}, encoder)
            pool = config.diffusion.batch_parallelism
            parts.append(
                DiffusionGenerator(generate, lambda rows: rows, layout, synthetic, noise, pool)
            )
        else:
            rows = stored_latents(path, layout, device, encoder)
            parts.append(ReplayBuffer(rows, synthetic, noise))
    if real:
        assert config.latents is not None
        order = generators_for([config.seed], "data", device)
        rows = stored_latents(config.latents, layout, device, encoder)
        parts.append(ReplayBuffer(rows, real, order))
    return MixedSource(parts)


def stored_latents(
    path: str | Path, layout: TransitionLayout, device: torch.device | str, encoder: str
) -> RowBuffer:
    """The latents in an ``.npz``, on the device.

    Raises:
        TransitionError: not transitions, or of other widths, or of another ``encoder``.
    """
    latents = Transitions.load(path)
    _require_encoder(path, latents.metadata, encoder)
    return RowBuffer.holding(layout, torch.from_numpy(layout.pack(latents)).to(device))


def _require_encoder(path: str | Path, described: Mapping[str, Any], encoder: str) -> None:
    """Raise a TransitionError where latents say that another agent's encoder made them."""
    found = described.get("encoder", encoder)  # samples of earlier versions do not say
    if found != encoder:
        raise TransitionError(
            f"{path}: latents of another encoder ({found}) than that of --load_agent ({encoder}); "
            "encode the data with this agent, or load the agent that they were encoded with"
        )

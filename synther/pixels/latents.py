"""Latent transitions are what a frozen encoder makes of a data set of pictures.

A latent transition is a transition like any other: its observation is the latent of s, its next
observation that of the observation n steps later with the *target* critic's part, its reward the
n-step sum. Its discount is 0 after a true end and ``gamma^n`` otherwise, nothing else, and is
stored as the terminal flag; so a sampled discount is one of the two, never something in between.
Where no episode truly ends, as in DeepMind Control, let the diffusion model leave the flag out
(``modelled_terminals = False``): a briefly trained model sets it where the data never does.
"""

from __future__ import annotations

import numpy as np
import torch

from synther.pixels.frame_replay import FrameReplay
from synther.pixels.heads import LatentEncoder
from synther.runs.loggers import progress_bar
from synther.transitions import FloatArray, TransitionError, Transitions


@torch.no_grad()
def encode_replay(
    encoder: LatentEncoder, replay: FrameReplay, n_step_discount: float, batch_size: int = 256
) -> Transitions:
    """Every window of ``replay`` as a latent transition, without augmentation.

    Args:
        encoder: frozen; DrQ+BC's or one of your own.
        replay: its discounts are 0 or ``n_step_discount``.
        n_step_discount: ``gamma^n``.
        batch_size: pictures encoded at a time.

    Raises:
        TransitionError: a discount that is neither.
    """
    terminals = discounts_to_terminals(replay.windows.discounts, n_step_discount)
    states, next_states = [], []
    with progress_bar(len(replay), "encoding", unit="row") as bar:
        for batch in replay.batches(batch_size):
            states.append(encoder.encode(batch.images).float().cpu().numpy())
            next_states.append(encoder.encode_next(batch.next_images).float().cpu().numpy())
            bar.update(len(states[-1]))
    return Transitions(
        np.concatenate(states),
        replay.windows.actions,
        replay.windows.rewards,
        np.concatenate(next_states),
        terminals,
        metadata={"n_step": replay.n_step, "n_step_discount": n_step_discount},
    )


def discounts_to_terminals(discounts: FloatArray, n_step_discount: float) -> FloatArray:
    """The column of discounts ``[N]`` as terminal flags; see the module."""
    terminals = 1 - discounts / np.float32(n_step_discount)
    flags = terminals.round().astype(np.float32)
    if (wrong := np.flatnonzero(np.abs(terminals - flags) > 1e-4)).size:
        raise TransitionError(
            f"the discount of row {wrong[0]} is {discounts[wrong[0]]}, expected 0 or "
            f"{n_step_discount}: discounts other than 0 and 1 in the data cannot be flags"
        )
    return np.abs(flags)

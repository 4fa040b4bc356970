"""An ensemble that rows are made consistent with lives in the file of their diffusion model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from synther.diffusion.successors.ensemble import TransitionEnsemble
from synther.diffusion.successors.fitting import MIN_ROWS
from synther.files import checkpoint
from synther.transitions import TransitionError

KEY = "ensemble"


def ensemble_in(
    payload: Mapping[str, Any], device: torch.device | str = "cpu"
) -> TransitionEnsemble | None:
    """The ensemble in what a model's file holds; None where there is none."""
    return TransitionEnsemble.from_payload(payload[KEY]).to(device) if KEY in payload else None


def load(
    path: str | os.PathLike[str], device: torch.device | str = "cpu"
) -> TransitionEnsemble | None:
    """The ensemble in ``model-{step}.pt``; None where there is none.

    Raises:
        CheckpointError: no such file, or a damaged one.
    """
    payload = checkpoint.load(path)
    with checkpoint.fitting(path, "not an ensemble of regressions"):
        return ensemble_in(payload, device)


def add(path: str | os.PathLike[str], ensemble: TransitionEnsemble) -> None:
    """Write an ensemble into ``model-{step}.pt``, whole or not at all."""
    checkpoint.save(path, {**checkpoint.load(path), KEY: ensemble.payload()})


def require_rows(consistency: str | None, count: int, source: str) -> None:
    """Raise TransitionError where samples are to be consistent, and no regression can be fitted to
    so few rows of training; ``source`` is what they are called."""
    if consistency == "ensemble" and count < MIN_ROWS:
        raise TransitionError(
            f"{source}: {count} rows to train on, expected {MIN_ROWS} or more for "
            "the regressions that make samples consistent; --consistency off does without"
        )

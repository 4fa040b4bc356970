"""Held-out rows are kept apart before training, and found again afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.transitions import Transitions

HELD_OUT_ROWS = 10_000
"""The largest number of rows that are kept from training; more do not sharpen the comparison."""


@dataclass(frozen=True)
class RealRows:
    """Real rows in two disjoint parts.

    Args:
        training: the rows that the model was trained on, if ``unseen``.
        held_out: the rest.
        unseen: whether the model is known not to have seen ``held_out``.
        note: how that is known, or why it is not.
    """

    training: Transitions
    held_out: Transitions
    unseen: bool
    note: str


def hold_out(data: Transitions, share: float, seed: int) -> tuple[Transitions, Transitions | None]:
    """Split off held-out rows at random, ``share`` of all but at most ``HELD_OUT_ROWS``; return the
    training rows and these. A share of 0 holds none out, and gives None."""
    kept, apart = rows_to_hold_out(data, share, seed)
    return (data, None) if apart is None else (data.subset(kept), data.subset(apart))


def rows_to_hold_out(
    data: Transitions, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """The numbers of the rows of both parts of :func:`hold_out`."""
    if share == 0:
        return np.arange(len(data)), None
    return data.split_rows(min(share, HELD_OUT_ROWS / len(data)), seed)


def draw(count: int, limit: int, seed: int) -> NDArray[np.int64]:
    """Row numbers below ``count`` in rising order: all of them, or ``limit`` drawn without
    replacement."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def split_like_training(
    data: Transitions, samples: Sequence[str | os.PathLike[str]], share: float = 0.1
) -> RealRows:
    """Split real rows as the training of the samples' models did.

    ``train_diffuser.py`` writes the share it held out, and the seed, to ``run.json`` beside model
    and samples. Where that is missing for one of ``samples``, or does not fit ``data``, or they do
    not agree, ``share`` of the rows is held out, and nobody knows what the model saw.

    Args:
        data: the data set that the models were trained on.
        samples: the files of samples or models.
        share: the share to hold out where nobody knows what the model saw.
    """
    try:
        runs = [_run_beside(Path(path)) for path in samples]
        splits = {(run["held_out"], run["seed"], run["rows"]) for run in runs}
        if len(splits) != 1:
            raise ValueError(f"run.json beside them differ: {sorted(splits)}")
        (held_out_share, seed, rows) = splits.pop()
        training, held_out = hold_out(data, held_out_share, seed)
        if held_out is None:
            raise ValueError("it was trained on all rows")
        if len(training) != rows:
            raise ValueError(f"it was trained on {rows} rows, not {len(training)} of {data.source}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        training, held_out = data.split(min(share, HELD_OUT_ROWS / len(data)), 0)
        note = f"the model may have seen the held-out rows ({_text(error)})"
        return RealRows(training, held_out, False, note)
    note = f"held out from training: {len(held_out)} rows, seed {seed}"
    return RealRows(training, held_out, True, note)


def _run_beside(path: Path) -> dict[str, Any]:
    found = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))
    return dict(found)


def _text(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{error.filename}: no such file"
    return f"run.json lacks {error}" if isinstance(error, KeyError) else str(error)

"""Held-out rows are kept apart before training, and found again afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synther.datasets.digest import content_digest
from synther.diffusion.provenance import TRAINED_ON, Provenance
from synther.errors import InputError
from synther.files import checkpoint, npz
from synther.transitions import TransitionLayout, Transitions

HELD_OUT = "held-out real rows"
HELD_OUT_ROWS = 10_000
"""The largest number of rows that are kept from training; more do not sharpen the comparison."""

LEAST_ROWS = 2
"""Distributions of less cannot be compared."""


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

    @property
    def reference(self) -> str:
        """What samples are compared with, for the title of a report."""
        if self.unseen:
            return HELD_OUT
        return "real rows of which nobody knows whether the model saw them"


def hold_out(data: Transitions, share: float, seed: int) -> tuple[Transitions, Transitions | None]:
    """Split off held-out rows at random, ``share`` of all but at most ``HELD_OUT_ROWS``; return the
    training rows and these. A share of 0 holds none out, and gives None.

    Raises:
        InputError: one part would have less than ``LEAST_ROWS``.
    """
    kept, apart = rows_to_hold_out(data, share, seed)
    return (data, None) if apart is None else (data.subset(kept), data.subset(apart))


def rows_to_hold_out(
    data: Transitions, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """The numbers of the rows of both parts of :func:`hold_out`, with its errors."""
    if len(data) < LEAST_ROWS:
        raise InputError(f"{data.source}: {len(data)} rows, expected {LEAST_ROWS} or more")
    if share == 0:
        return np.arange(len(data)), None
    kept, apart = data.split_rows(min(share, HELD_OUT_ROWS / len(data)), seed)
    least = min(len(kept), len(apart))
    if least < LEAST_ROWS:
        raise InputError(
            f"{data.source}: {share} of {len(data)} rows held out leaves {least} on one side, "
            f"expected {LEAST_ROWS} or more on both; take another share, or more rows"
        )
    return kept, apart


def share_also_trained_on(training: Transitions, held_out: Transitions) -> float:
    """The share of the held-out rows that are among the training rows too, bit for bit. Where rows
    occur more than once a split by their numbers parts copies."""
    layout = TransitionLayout.of(held_out, terminals=True)
    apart = [row.tobytes() for row in layout.pack(held_out)]
    wanted = set(apart)
    found = {same for row in layout.pack(training) if (same := row.tobytes()) in wanted}
    return sum(row in found for row in apart) / len(apart)


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

    Models and their samples say which data they are from, which share was held out, and by which
    seed; for those of earlier versions ``run.json`` beside them does, but for the data's digest.
    Where that is missing for one of ``samples``, or they do not agree, or ``data`` are others,
    ``share`` of the rows is held out, and nobody knows what the model saw.

    Args:
        data: real rows, such as the data set that the models were trained on.
        samples: the files of samples or models.
        share: the share to hold out where nobody knows what the model saw.
    """
    try:
        found = [known_of(Path(path)) for path in samples]
        splits = {(each.digest, each.rows, each.held_out, each.seed) for each in found}
        if len(splits) != 1:
            raise ValueError(f"what is known of their models differs: {sorted(map(str, splits))}")
        return split_as_learnt(data, found[0], share)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _unknown(data, share, 0, _text(error))


def split_as_learnt(
    data: Transitions,
    learnt: Provenance | None,
    share: float,
    seed: int = 0,
    *,
    compared: bool = False,
) -> RealRows:
    """Split real rows as the training of one model did; where that cannot be known, by ``share``
    and ``seed``.

    Args:
        data: real rows.
        learnt: what is known of the model's data. Without a digest, as in earlier versions,
            ``rows`` are those of the training alone, and their number has to do.
        share, seed: for rows of which nobody knows whether the model saw them.
        compared: whether the caller has found the digest to be that of ``data``; a large data set
            takes seconds for one.
    """
    try:
        if learnt is None:
            raise ValueError("nothing says what it was trained on")
        if learnt.digest and not compared and learnt.digest != content_digest(data):
            raise ValueError(
                f"it was trained on other rows than those of {data.source}: {learnt.rows} of "
                f"{learnt.dataset or 'a data set without a name'}, digest {learnt.digest}"
            )
        if learnt.held_out is None:
            raise ValueError("nothing says which rows were held out")
        training, held_out = hold_out(data, learnt.held_out, learnt.seed)  # type: ignore[arg-type]
        if not learnt.digest and len(training) != learnt.rows:
            raise ValueError(
                f"it was trained on {learnt.rows} rows, not {len(training)} of {data.source}"
            )
        if held_out is None:
            raise ValueError("it was trained on all rows")
    except ValueError as error:
        return _unknown(data, share, seed, str(error))
    note = f"held out from training: {len(held_out)} rows, seed {learnt.seed}"
    return RealRows(training, held_out, True, note)


def known_of(path: Path) -> Provenance:
    """What a file of samples or of a model says of the data behind it, or else ``run.json`` beside
    it.

    Raises:
        OSError, ValueError, KeyError, TypeError: neither says anything.
    """
    found = None
    if path.suffix == ".pt" and path.is_file():
        found = Provenance.from_plain(checkpoint.load(path).get(TRAINED_ON))
    elif path.is_file():
        found = Provenance.from_plain(npz.metadata(path).get(TRAINED_ON))
    return found or run_beside(path)


def run_beside(path: Path) -> Provenance:
    """What ``run.json`` says that lies beside a file; its rows are those of the training alone.

    Raises:
        OSError, ValueError, KeyError, TypeError: there is none, or it does not say it.
    """
    found = dict(json.loads((path.parent / "run.json").read_text(encoding="utf-8")))
    return Provenance(
        dataset=found.get("dataset"),
        held_out=found["held_out"],
        seed=found["seed"],
        rows=found["rows"],
    )


def _unknown(data: Transitions, share: float, seed: int, reason: str) -> RealRows:
    training, held_out = data.split(min(share, HELD_OUT_ROWS / len(data)), seed)
    note = f"the model may have seen the held-out rows ({reason})"
    return RealRows(training, held_out, False, note)


def _text(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{error.filename}: no such file"
    return f"run.json lacks {error}" if isinstance(error, KeyError) else str(error)

"""A digest of a data set's content tells whether two data sets of one name are the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.datasets.vd4rl import PixelEpisodes
from synther.files.checkpoint import CheckpointError
from synther.transitions import TransitionLayout, Transitions

PICTURES = 64
"""So many pictures, evenly spaced, stand for all of a data set's: reading all takes minutes."""
_DIGITS = 16


def content_digest(transitions: Transitions) -> str:
    """16 hexadecimal digits of a SHA-256 over the five arrays; where the rows come from, and what
    their metadata say, is no part of it."""
    return digest_of(transitions.arrays())


def rows_digest(layout: TransitionLayout, rows: NDArray[np.float32]) -> str:
    """The same of transitions that lie in rows ``[N, row_dim]`` with a terminal column."""
    fields = layout.split(rows)
    flat = {name: fields[name].reshape(len(rows)) for name in ("rewards", "terminals")}
    return digest_of({**fields, **flat})


def pixel_digest(episodes: PixelEpisodes) -> str:
    """The same of episodes of pictures: over all their numbers and ``PICTURES`` of the pictures."""
    rows = np.linspace(0, len(episodes) - 1, min(PICTURES, len(episodes))).astype(np.int64)
    numbers = {key: getattr(episodes, key) for key in ("actions", "rewards", "discounts", "starts")}
    return digest_of({**numbers, "images": episodes.gather(rows)})


def file_digest(path: str | os.PathLike[str]) -> str:
    """The same of a file, whatever it holds."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:_DIGITS]


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The first 16 digits of :func:`hash_of`."""
    return hash_of(arrays)[:_DIGITS]


def hash_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the names, types, shapes and bytes of arrays, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def require_same_digests(then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Compare what a run learned from when it was started with what it is given now, by name; a
    name that either does not have is not compared, because earlier versions noted fewer.

    Raises:
        CheckpointError: one of them has another content now.
    """
    for name, digest in now.items():
        if then.get(name, digest) != digest:
            raise CheckpointError(
                f"the data of {name} have changed since the run was started (digest {then[name]} "
                f"then, {digest} now); give it the data that it began with, or leave --resume out "
                "to begin a new run"
            )

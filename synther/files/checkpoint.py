"""Checkpoints hold tensors and plain values only, and are written whole or not at all.

Reading never executes anything: ``torch.load(weights_only=True)`` everywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synther.files.atomic import atomic_write


class CheckpointError(RuntimeError):
    """A checkpoint that is not there, is damaged, or does not fit; the message names the file."""


class DivergedError(RuntimeError):
    """Training whose numbers are no longer finite; the message names the last good checkpoint."""


def save(path: str | os.PathLike[str], payload: Mapping[str, Any]) -> Path:
    """Write ``payload`` (nested dicts, lists, tensors, numbers, text) so that a crash leaves either
    the old file or the new one, never a part."""
    with atomic_write(path) as file:
        try:
            torch.save(dict(payload), file)
        except RuntimeError as error:
            # Where a write fails, torch raises that its archive is now too short.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    return Path(path)


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint onto ``device``.

    Raises:
        CheckpointError: no such file, not a checkpoint, truncated, or holding more than tensors and
            plain values (which would have to be executed to be read).
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        _require_intact(path)
        payload = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, it is not a checkpoint of tensors and plain values ({_line(error)})"
        ) from error
    except (torch.AcceleratorError, torch.OutOfMemoryError):
        raise  # of the device that it is read onto
    except Exception as error:  # of a damaged file torch raises a dozen kinds
        raise CheckpointError(
            f"{path}: cannot be read ({_line(error)}); it may be truncated or damaged: use an "
            "earlier checkpoint"
        ) from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"{path}: holds a {type(payload).__name__}, expected a dict")
    return payload


@contextlib.contextmanager
def fitting(path: str | os.PathLike[str], otherwise: str) -> Iterator[None]:
    """Turn the error of code that takes a file's contents apart, where something is missing in
    them or of another kind or shape, into one that names the file.

    Raises:
        CheckpointError: ``{path}: {otherwise}``, and what did not fit.
    """
    try:
        yield
    except CheckpointError as error:
        if str(path) in str(error):
            raise
        raise CheckpointError(f"{path}: {error}") from error
    except (torch.AcceleratorError, torch.OutOfMemoryError):
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else _line(error)
        raise CheckpointError(f"{path}: {otherwise} ({what})") from error


def _require_intact(path: str | os.PathLike[str]) -> None:
    """Compare checksums, which torch writes and does not look at: a bit that flipped on the disk
    would be a weight like any other."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"checksum of {damaged} is wrong")


def _line(error: Exception) -> str:
    """An error's text in one line of reasonable length, or its kind where it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def steps(folder: str | os.PathLike[str], prefix: str) -> dict[int, Path]:
    """The files ``{prefix}-{step}.pt`` in ``folder``: step -> path, in rising order of the step."""
    pattern = re.compile(re.escape(prefix) + r"-(\d+)\.pt")
    found = {}
    if Path(folder).is_dir():
        for path in Path(folder).iterdir():
            match = pattern.fullmatch(path.name)
            if match:
                found[int(match[1])] = path
    return dict(sorted(found.items()))


def latest(folder: str | os.PathLike[str], prefix: str) -> Path | None:
    """The file ``{prefix}-{step}.pt`` of the highest step, or None."""
    return next(reversed(list(steps(folder, prefix).values())), None)


def furthest(folder: str | os.PathLike[str], *prefixes: str) -> Path | None:
    """The file of the highest step among those of several prefixes, or None."""
    found = {step: path for prefix in prefixes for step, path in steps(folder, prefix).items()}
    return found[max(found)] if found else None


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number in all of them is finite; the host waits once."""
    flags = [each.isfinite().all() for each in tensors]
    return not flags or bool(torch.stack(flags).all())


def fingerprint(model: nn.Module) -> str:
    """A short digest of a model's weights."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        flat = value.detach().cpu().contiguous().reshape(-1)  # a number alone has no bytes to view
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()[:16]

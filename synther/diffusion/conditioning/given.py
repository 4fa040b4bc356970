"""Values of a condition come as arrays, lists or tensors, and are numbers or labels."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.diffusion.conditioning.errors import ConditionError

MANY_LABELS = 20
"""More labels than this that all read as numbers are numbers that were given as text."""


def array_of(values: Any) -> NDArray[Any]:
    """Values as an array of whatever type; a tensor may be on any device, and want gradients.

    Raises:
        ConditionError: some are masked, so that nobody knows them.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        if values.dtype == torch.bfloat16:  # numpy has no such type; float32 holds it exactly
            values = values.float()
        return values.numpy()
    if np.ma.is_masked(values):
        row = int(np.flatnonzero(np.ma.getmaskarray(values))[0])
        raise ConditionError(
            f"the values of the condition are masked, row {row} first, expected a number or a "
            "label in each; leave such rows out, or fill them"
        )
    return np.asarray(values)


def numbers_or_labels(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Values ``[N]`` with labels that came as objects or bytes as text, and numbers that came as
    objects as float64; others stay as they are.

    Args:
        values: of any type.
        where: whose they are, in words.

    Raises:
        ConditionError: a value that is missing, or neither a number nor a text, or numbers that
            came as text.
    """
    if values.dtype.kind == "O":
        for row, each in enumerate(values):
            if not isinstance(each, (Real, np.bool_, str, bytes)) or each != each:
                raise ConditionError(
                    f"{where} is {each!r:.80} in row {row}, expected a number or a label; leave "
                    "such rows out, or give a value for them"
                )
        if not any(isinstance(each, (str, bytes)) for each in values):
            return values.astype(np.float64)
    elif values.dtype.kind not in "SU":
        return values
    labels = values
    if values.dtype.kind != "U":
        labels = np.array([label_text(each, where) for each in values])
    distinct = set(labels.tolist())
    if len(distinct) > MANY_LABELS and all(map(_reads_as_number, distinct)):
        raise ConditionError(
            f"{where} has {len(distinct)} labels, such as '{labels[0]}', and these read as "
            "numbers; give them as such, not as text"
        )
    return labels


def label_text(value: Any, where: str) -> str:
    """A label as text, which bytes are in UTF-8."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ConditionError(f"{where}: the label {bytes(value)!r:.80} is no UTF-8") from error


def labels_of(values: NDArray[Any]) -> tuple[str, ...]:
    """The labels that are in ``values`` of :func:`numbers_or_labels`, each once; none where these
    are numbers."""
    return tuple(sorted(set(values.tolist()))) if values.dtype.kind == "U" else ()


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

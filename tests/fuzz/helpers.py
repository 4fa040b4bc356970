"""Damage to files, and what has to follow from it: a value, or an error that names the file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

Value = TypeVar("Value")
FUZZ = settings(max_examples=int(os.environ.get("SYNTHER_FUZZ", "80")))
"""``SYNTHER_FUZZ`` says how many inputs of each kind."""
FEW = settings(FUZZ, max_examples=max(1, FUZZ.max_examples // 3))
"""Where one costs more."""
LONGEST = 20.0
"""Seconds of this process' own work for a file of kilobytes, which takes milliseconds."""


def loads_or_says_why(
    load: Callable[[Path], Value], path: Path, *errors: type[Exception]
) -> Value | None:
    """What ``load`` gives; None where it refuses the file by name, with one of ``errors``."""
    started, value, message = time.process_time(), None, path.name
    try:
        value = load(path)
    except errors as error:
        message = str(error)
    assert path.name in message
    assert time.process_time() - started < LONGEST
    return value


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    """``whole`` cut off, or with bits flipped, bytes overwritten, put in, or taken out."""
    where = st.integers(0, len(whole) - 1)
    kind = draw(st.sampled_from(["cut", "flip", "flip", "overwrite", "insert", "remove"]))
    if kind == "cut":
        return whole[: draw(where)]
    data = bytearray(whole)
    if kind == "flip":
        for at in draw(st.lists(where, min_size=1, max_size=8)):
            data[at] ^= 1 << draw(st.integers(0, 7))
        return bytes(data)
    start = draw(where)
    length = draw(st.integers(1, 40))
    if kind == "overwrite":
        filler = draw(st.sampled_from([b"\0", b"\xff", b"\x7f"]))
        data[start : start + length] = filler * len(data[start : start + length])
    elif kind == "insert":
        data[start:start] = draw(st.binary(min_size=1, max_size=8))
    else:
        del data[start : start + length]
    return bytes(data)

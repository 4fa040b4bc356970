"""What a mistyped name may have meant: the end of a message about a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["close_names", "did_you_mean"]


def close_names(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.5) -> list[str]:
    """The ``most`` known names that are most like ``name``, the nearest first.

    Case does not matter, nor whether words are joined by hyphens or underscores. ``cutoff`` is the
    likeness, from 0 to 1, below which a name is not close (``difflib.get_close_matches``).
    """
    by_spelling = {_spelling(each): each for each in known}
    close = difflib.get_close_matches(_spelling(name), by_spelling, n=most, cutoff=cutoff)
    return [by_spelling[each] for each in close]


def did_you_mean(
    name: str, known: Iterable[str], dashes: str = "", most: int = 1, listed: int = 100
) -> str:
    """The end of a message about the unknown ``name``; nothing where no known name is close.

    Args:
        dashes: what stands before a name that is to be typed, such as ``--``.
        most: how many names are offered.
        listed: where none is close, the known ones are listed if they are not more than these.
    """
    names = [*known]
    if close := close_names(name, names, most):
        return f"; did you mean {' or '.join(dashes + each for each in close)}?"
    if not names or len(names) > listed:
        return ""
    return f"; expected one of {', '.join(dashes + each for each in names)}"


def _spelling(name: str) -> str:
    return name.lower().replace("-", "_")

"""Others have published scores of training on the data set itself; a report shows them too."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Literal

When = Literal["last", "best"]


@cache
def _content() -> dict[str, Any]:
    file = resources.files("synther.reports").joinpath("published.json")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def source() -> str:
    """Where the numbers are from, in one sentence."""
    return str(_content()["source"])


def published(task: str, method: str, when: When) -> tuple[float, float] | None:
    """The published mean and the number after its ±; None where nothing was published.

    Args:
        task: a D4RL data set.
        method: an algorithm without SynthER, ``TD3+BC`` for example.
        when: after the last evaluation, or at the best one.
    """
    methods = _content()["methods"]
    if method not in methods or task not in _content()[when]:
        return None
    value, spread = _content()[when][task][methods.index(method)]
    return float(value), float(spread)

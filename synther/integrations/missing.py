"""A stand-in takes the place of a library that is not installed."""

from __future__ import annotations

from typing import Any

from synther.installed import install_hint


class MissingStableBaselines3:
    """A base class that lets the module be imported; its classes then say what to install."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise ImportError(
            f"{type(self).__name__} needs Stable-Baselines3; run {install_hint('sb3')}"
        )

"""What stands in for a library that is not installed."""

from __future__ import annotations

from typing import Any


class MissingStableBaselines3:
    """In the place of a base class, so that the module imports and its classes say what to do."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise ImportError(
            f"{type(self).__name__} needs Stable-Baselines3; run pip install 'synther[sb3]'"
        )

"""Time of a run and its rate."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Time of this run, the runs it continues included, and updates a second between two calls."""

    def __init__(self, step: int, seconds: float) -> None:
        now = time.perf_counter()
        self._start, self._last, self._step = now - seconds, now, step

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def rate(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self._step) / (now - self._last)
        self._last, self._step = now, step
        return rate

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what happens inside out of the rate."""
        before = time.perf_counter()
        yield
        self._last += time.perf_counter() - before

"""A run's time and rate are measured here, and when its next checkpoint is due."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Measures the time of a run, the runs that it continues included, and its steps a second."""

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
        """Leave the time that passes inside out of the rate."""
        before = time.perf_counter()
        yield
        self._last += time.perf_counter() - before


WRITING_SHARE = 0.02
"""The share of a run's time that :class:`Pace` lets its checkpoints take."""


class Pace:
    """Says when to write the next checkpoint: every so many seconds, and less often where writing
    one is so slow that it would take more than ``WRITING_SHARE`` of the time.

    Args:
        seconds: from the end of one to the next.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due = time.monotonic() + seconds

    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Count the time to the next from the end of the block, in which one is written."""
        started = time.monotonic()
        yield
        ended = time.monotonic()
        self._due = ended + max(self.seconds, (ended - started) / WRITING_SHARE)

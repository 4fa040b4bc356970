"""A progress bar says within a minute, by the rate that it measures, whether work takes hours."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any, NamedTuple

from tqdm.auto import tqdm

LONG = 3600.0
"""Seconds; work that takes longer is announced."""
PATIENCE = 20.0
"""Seconds from the start to the first estimate."""
ENOUGH = 100
"""After this many steps the rate is the average; before that, the rate since the first of them, to
which the start of the work, which may be long, does not belong."""
LATELY = 40.0
"""After so many seconds a slower rate than before is announced, too: an online run begins with
thousands of steps without updates."""
SETTLED = 0.95
"""Where the rate of half of these seconds is less than this share, they still hold quicker ones."""
FEW = 4
"""With fewer updates of the bar there is no rate of these seconds."""
SHOWN = 120.0
"""The bar shows the rate of so many seconds, to which pauses for an evaluation belong."""
ADVICE = {
    "diffusion": "For a CPU there are config/resmlp_demo_denoiser.gin (minutes on two cores) and "
    "synther upsample, which chooses by the machine.",
    "sampling": "--sampler fast takes a tenth of the network calls; --save_num_samples fewer rows.",
    "offline": "--max_timesteps makes it shorter; --precision bf16 --compile default make it "
    "faster where the processor has units for bfloat16.",
    "online": "config/online/*_small.gin are made for two CPU cores; --debug runs through "
    "everything in seconds.",
}
"""What is quicker on this machine, by the kind of work."""


class _Mark(NamedTuple):
    """Where a bar stood: the time, its steps and its updates, and how long the longest of these
    took since the mark before."""

    time: float
    steps: float
    updates: int
    longest: float


class Bar(tqdm):
    """A bar that announces long work, once, and shows the rate of the last two minutes.

    Args:
        advice: a sentence on what is quicker on this machine; it follows the announcement.
    """

    def __init__(self, *args: Any, advice: str = "", **options: Any) -> None:
        self._advice = advice
        self._began = self._last = time.monotonic()
        self._first: tuple[float, float] | None = None  # time and steps of the first update
        self._told = False
        self._updates, self._longest = 0, 0.0
        self._marks: deque[_Mark] = deque()  # one a second, for SHOWN seconds
        super().__init__(*args, **options)
        self._marks.append(_Mark(self._began, self.n, 0, 0.0))

    def update(self, n: float | None = 1) -> bool | None:
        """As tqdm has it; the announcement comes here."""
        if not self.disable:
            now = time.monotonic()
            self._updates += 1
            self._longest, self._last = max(self._longest, now - self._last), now
        shown: bool | None = super().update(n)
        if not self.disable:
            marked = self._mark()
            if not self._told and self.total:
                self._announce(marked)
        return shown

    @property
    def format_dict(self) -> Any:
        """As tqdm has it, but for the rate while the bar moves; at the end it is the average."""
        shown = super().format_dict
        if shown["rate"] is not None and (since := self._mark_before(SHOWN)):
            shown["rate"] = (self.n - since.steps) / (self._last - since.time)
        return shown

    def _mark(self) -> bool:
        """Whether a second has passed since the last mark, so that there is a new one."""
        if self._last - self._marks[-1].time < 1:
            return False
        self._marks.append(_Mark(self._last, self.n, self._updates, self._longest))
        self._longest = 0.0
        while len(self._marks) > 2 and self._marks[1].time <= self._last - SHOWN:
            self._marks.popleft()
        return True

    def _mark_before(self, seconds: float) -> _Mark | None:
        """The last mark that is so old, or the first one."""
        old = [mark for mark in self._marks if mark.time <= self._last - seconds]
        found = old[-1] if old else next(iter(self._marks), None)
        return found if found and found.time < self._last and found.steps < self.n else None

    def _announce(self, marked: bool) -> None:
        lately, still = (self._lately(LATELY), self._lately(LATELY / 2)) if marked else (None, None)
        rates = [rate for rate in (self._average(), lately) if rate]
        if not rates or (left := (self.total - self.n) / min(rates)) <= LONG:
            return
        if still and still < SETTLED * min(rates):
            return  # it becomes slower, and would be taken for quicker than it is
        self._told = True
        what = f"{self.desc.rstrip(': ')}: " if self.desc else ""
        self.write(
            f"{what}about {duration(left)} more on this machine, at {min(rates):.3g} "
            f"{self.unit}s a second; it goes on. {self._advice}".rstrip(),
            file=sys.stderr,
        )

    def _average(self) -> float | None:
        """Steps a second from the start, or from the first update."""
        done = self.n - self.initial
        if self._first is None:
            self._first = (self._last, done)
        if self._last - self._began < PATIENCE or done < 2:
            return None
        since, before = (self._began, 0.0) if done >= ENOUGH else self._first
        if self._last <= since or done <= before:
            return None
        return float(done - before) / (self._last - since)

    def _lately(self, span: float) -> float | None:
        """Steps a second of the last ``span`` seconds, without the longest update of them, which
        may be a pause for something else."""
        since = self._mark_before(span)
        if since is None or self._updates - since.updates < FEW:
            return None
        longest = max([self._longest, *(m.longest for m in self._marks if m.time > since.time)])
        seconds = self._last - since.time - longest
        if seconds < span / 2:
            return None
        updates = self._updates - since.updates
        return float(self.n - since.steps) * (1 - 1 / updates) / seconds


def duration(seconds: float) -> str:
    """``50 s``, ``12 minutes``, ``1.5 hours``, ``18 hours``, ``3 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 48 * 3600:
        hours = seconds / 3600
        return f"{hours:.0f} hours" if hours >= 10 else f"{hours:.1f} hours"
    return f"{seconds / 86400:.0f} days"


def in_notebook() -> bool:
    """Whether this is a notebook, whose bars have a width and a pace of their own."""
    return "ipykernel" in sys.modules and not sys.stderr.isatty()

"""A progress bar says within a minute, by the rate that it measures, whether work takes hours."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm.auto import tqdm

LONG = 3600.0
"""Seconds; work that takes longer is announced."""
PATIENCE = 20.0
"""Seconds from the start to the first estimate."""
ENOUGH = 100
"""After this many steps the rate is the average; before that, the rate since the first of them, to
which the start of the work, which may be long, does not belong."""
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


class Bar(tqdm):
    """A bar that announces long work, once.

    Args:
        advice: a sentence on what is quicker on this machine; it follows the announcement.
    """

    def __init__(self, *args: Any, advice: str = "", **options: Any) -> None:
        self._advice = advice
        self._began = time.monotonic()
        self._first: tuple[float, float] | None = None  # time and steps of the first update
        self._told = False
        super().__init__(*args, **options)

    def update(self, n: float | None = 1) -> bool | None:
        """As tqdm has it; the announcement comes here."""
        shown: bool | None = super().update(n)
        if not self._told and not self.disable and self.total:
            self._announce(time.monotonic())
        return shown

    def _announce(self, now: float) -> None:
        done = self.n - self.initial
        if self._first is None:
            self._first = (now, done)
        if now - self._began < PATIENCE or done < 2:
            return
        since, before = (self._began, 0.0) if done >= ENOUGH else self._first
        if now <= since or done <= before:
            return
        rate = (done - before) / (now - since)
        left = (self.total - self.n) / rate
        if left > LONG:
            self._told = True
            what = f"{self.desc.rstrip(': ')}: " if self.desc else ""
            self.write(
                f"{what}about {duration(left)} more on this machine, at {rate:.3g} {self.unit}s a "
                f"second; it goes on. {self._advice}".rstrip(),
                file=sys.stderr,
            )


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

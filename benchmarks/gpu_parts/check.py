"""What a check of a GPU finds is kept here, and written to files as it is found."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from synther.files import atomic

Mode = Literal["quick", "normal", "full"]
TOTAL: dict[Mode, float] = {"quick": 180, "normal": 600, "full": 1800}
"""Seconds of all parts together; of one part, in proportion."""

SECONDS_UNWRITTEN = 5.0
T = TypeVar("T")
console = Console()


@dataclass
class PartResult:
    """What one part found.

    Attributes:
        status: ``passed``, ``failed``, or why it is neither.
        failures: one line each.
        checks: how many comparisons there were.
        notes: numbers and words worth knowing, by name.
    """

    status: str = "cut off"
    seconds: float = 0.0
    checks: int = 0
    failures: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


class Check:
    """One run of the check.

    Args:
        device: the CUDA device under test, real or emulated.
        mode: how much is done.
        folder: takes ``gpu_check.json`` and ``gpu_check.md``, which are written as it goes.
    """

    def __init__(self, device: torch.device, mode: Mode, folder: Path) -> None:
        self.device, self.mode, self.folder = device, mode, folder
        self.parts: dict[str, PartResult] = {}
        self.is_emulated = "emulated" in torch.cuda.get_device_name(device)
        self._current = PartResult()
        # An emulated device has little to do, and what it finds must not depend on the load.
        total = float("inf") if self.is_emulated else TOTAL[mode]
        self._end = time.perf_counter() + total
        self._deadline = self._end
        self._written = 0.0

    # ---- What parts call ----
    def expect(self, good: bool, what: str) -> None:
        """Count a comparison; ``what`` says what is wrong where it is not ``good``."""
        self._current.checks += 1
        if not good:
            self._current.failures.append(what)
            console.print(f"  [red]failed[/]: {escape(what)}", highlight=False)
        if not good or time.perf_counter() > self._written + SECONDS_UNWRITTEN:
            self.write()

    def near(self, found: float, limit: float, what: str) -> None:
        """Expect an error to be within a limit; the largest of each limit is noted."""
        name = f"largest error where {limit:g} is the limit"
        self._current.notes[name] = max(found, self._current.notes.get(name, 0.0))
        self.expect(found <= limit, f"{what}: error {found:.2e}, at most {limit:g} expected")

    def note(self, name: str, value: Any) -> None:
        """Keep a number or a word, and say it."""
        self._current.notes[name] = value
        console.print(f"  {escape(name)}: {escape(_shown(value))}", highlight=False)

    def is_late(self) -> bool:
        """Whether the part has had its time: what it has not begun, it leaves out."""
        return self.seconds_left() <= 0

    def seconds_left(self) -> float:
        """Of the part."""
        return self._deadline - time.perf_counter()

    def some(self, subjects: Mapping[str, T], few: int) -> dict[str, T]:
        """All of them, or on an emulated device the first ``few``: it checks the check as well."""
        return dict(list(subjects.items())[: few if self.is_emulated else None])

    # ---- What the command calls ----
    def do(self, name: str, seconds: float, run: Callable[[Check], None]) -> None:
        """One part; an error in it is a failure of the part, and the others go on."""
        console.print(f"[bold]{name}[/]")
        result = self._current = self.parts[name] = PartResult()
        self.write()
        started = time.perf_counter()
        if started >= self._end:
            result.status = "left out, the time was over"
            return
        own = float("inf") if self.is_emulated else seconds * TOTAL[self.mode] / TOTAL["normal"]
        self._deadline = min(started + own, self._end)
        try:
            run(self)
            if self.is_late():
                result.notes["time"] = "over; what was not begun by then is left out"
        except (Exception, SystemExit) as error:  # the other parts have something to tell still
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            self.expect(False, f"{type(error).__name__} at {where}: {error}"[:500])
            result.notes["traceback"] = traceback.format_exc()[-3000:]
        result.seconds = round(time.perf_counter() - started, 1)
        result.status = "failed" if result.failures else "passed"
        console.print(f"  {result.status}: {result.checks} checks, {result.seconds} s")
        self.write()

    @property
    def failed(self) -> bool:
        return any(each.failures for each in self.parts.values())

    def write(self) -> None:
        record = {
            "device": torch.cuda.get_device_name(self.device),
            "torch": torch.__version__,
            "mode": self.mode,
            "parts": {name: vars(each) for name, each in self.parts.items()},
        }
        self._written = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1, default=str)
        atomic.write_text(self.folder / "gpu_check.json", text + "\n")
        atomic.write_text(self.folder / "gpu_check.md", self._page())

    def _page(self) -> str:
        name = torch.cuda.get_device_name(self.device)
        lines = [
            f"# GPU check: {name}",
            "",
            f"`python3 benchmarks/gpu_check.py`, {self.mode}, torch {torch.__version__}.",
            "",
            "| part | | checks | s |",
            "|---|---|---|---|",
        ]
        for part, each in self.parts.items():
            lines.append(f"| {part} | {each.status} | {each.checks} | {each.seconds:g} |")
        for part, each in self.parts.items():
            shown = {key: value for key, value in each.notes.items() if key != "traceback"}
            if each.failures or shown:
                lines += ["", f"## {part}", ""]
            lines += [f"- **failed**: {failure}" for failure in each.failures]
            lines += [f"- {key}: {_shown(value)}" for key, value in shown.items()]
        return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def apart(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """The largest relative difference of two lists of tensors, on whichever devices: the norm of
    the difference over the norm of the expected tensor, each tensor for itself."""
    largest = 0.0
    for one, other in zip(found, expected, strict=True):
        a, b = one.detach().cpu().double(), other.detach().cpu().double()
        scale = max(float(b.norm()), 1e-12)
        difference = float((a - b).norm()) / scale
        largest = max(largest, difference if difference == difference else float("inf"))
    return largest

"""A person sees a study as its plan, and as a table that follows it while it runs."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from synther.sweeps.execute import last_line
from synther.sweeps.jobs import Job, record
from synther.sweeps.schedule import Schedule
from synther.sweeps.study import KINDS

SHOWN = 12
"""The table has a line for each of this many running jobs."""


def print_plan(console: Console, plan: Sequence[Job], root: Path) -> None:
    """Print every job with its state, the jobs that it needs, and its command."""
    counts = Counter(job.state(root) for job in plan)
    for job in plan:
        needs = f"  needs {', '.join(job.needs)}" if job.needs else ""
        console.print(f"{job.state(root):>10}  {job.name}{needs}", highlight=False, soft_wrap=True)
        command = shlex.join(["python3", *job.command(root)])
        console.print(f"{'':12}{command}", highlight=False, soft_wrap=True, markup=False)
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    console.print(f"{len(plan)} jobs in {root}: {states}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def live_table(
    console: Console, plan: Sequence[Job], title: str
) -> Iterator[Callable[[Schedule], None]]:
    """What shows a schedule: on a terminal a table, elsewhere a line for every change."""
    if not console.is_terminal:
        yield _Lines(console, plan)
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield lambda schedule: live.update(_table(plan, schedule, title), refresh=True)


def _table(plan: Sequence[Job], schedule: Schedule, title: str) -> RenderableType:
    totals = Table(title=title, box=SIMPLE_HEAD)
    for heading in ("", "jobs", "done", "running", "queued", "waiting", "failed", "blocked"):
        totals.add_column(heading, justify="left" if heading == "" else "right")
    running = _running(schedule)
    for kind in KINDS:
        names = [job.name for job in plan if job.kind == kind]
        if not names:
            continue
        queued = schedule.submitted.keys() - {job.name for job in running}
        groups = (
            schedule.done, {job.name for job in running}, queued, schedule.waiting,
            schedule.failed, schedule.blocked,
        )  # fmt: skip
        counts = [sum(name in group for name in names) for group in groups]
        totals.add_row(kind, str(len(names)), *map(str, counts))
    return Group(totals, *(_line(job, schedule.root) for job in running[:SHOWN]))


def _running(schedule: Schedule) -> list[Job]:
    """The submitted jobs that a worker has begun, by their state files: Ray does not say."""
    return [
        job
        for job in schedule.submitted.values()
        if record(job, schedule.root).get("state") == "running"
    ]


def _line(job: Job, root: Path) -> Text:
    state = record(job, root)
    minutes, seconds = divmod(int(time.time() - state.get("began", time.time())), 60)
    start = f" (start {state['starts']})" if state.get("starts", 1) > 1 else ""
    line = last_line(job.folder(root) / "log.txt")
    return Text(f"{minutes:4d}:{seconds:02d}  {job.name}{start}  {line}", overflow="ellipsis")


class _Lines:
    """Prints a line for every job whose state has changed, for logs."""

    def __init__(self, console: Console, plan: Sequence[Job]) -> None:
        self.console, self.plan = console, plan
        self._printed: dict[str, str] = {}

    def __call__(self, schedule: Schedule) -> None:
        running = {job.name for job in _running(schedule)}
        for job in self.plan:
            name = job.name
            now = "waiting"
            if name in schedule.done:
                now = "done"
            elif name in schedule.failed:
                now = f"failed: {schedule.failed[name]}"
            elif name in schedule.blocked:
                now = f"blocked by {schedule.blocked[name]}"
            elif name in running:
                now = f"running, start {record(job, schedule.root).get('starts')}"
            elif name in schedule.submitted:
                continue  # between two starts, or in the queue
            if self._printed.get(name) != now and now != "waiting":
                clock = time.strftime("%H:%M:%S")
                self.console.print(
                    f"{clock}  {name}: {now}", highlight=False, markup=False, soft_wrap=True
                )
                self._printed[name] = now

"""The table on a terminal, and the lines of a log."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from synther.sweeps.board import live_table
from synther.sweeps.jobs import Job, update_record
from synther.sweeps.schedule import Schedule

PLAN = [
    Job("diffusion/m", "diffusion", "x", ()),
    Job("offline/a", "offline", "x", (), needs=("diffusion/m",)),
    Job("offline/b", "offline", "x", ()),
    Job("offline/c", "offline", "x", ()),
    Job("offline/d", "offline", "x", (), needs=("offline/c",)),
]


def half_way(root: Path) -> Schedule:
    """The model runs for the second time, ``b`` is queued, ``c`` failed, and ``d`` needs it."""
    schedule = Schedule(PLAN, root, retries=0)
    schedule.submitted = {job.name: schedule.waiting.pop(job.name) for job in (PLAN[0], PLAN[2])}
    schedule.failed["offline/c"] = "exit code 1: broke"
    schedule.blocked["offline/d"] = "offline/c: exit code 1: broke"
    del schedule.waiting["offline/c"], schedule.waiting["offline/d"]
    update_record(PLAN[0], root, state="running", starts=2)
    (PLAN[0].folder(root) / "log.txt").write_text("bar 10%\rbar 20%")
    return schedule


def test_the_table_counts_jobs_and_shows_what_runs(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with live_table(console, PLAN, "a study") as watch:
        watch(half_way(tmp_path))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["jobs", "done", "running", "queued", "waiting", "failed", "blocked"] in lines
    assert ["diffusion", "1", "0", "1", "0", "0", "0", "0"] in lines
    assert ["offline", "4", "0", "0", "1", "1", "1", "1"] in lines
    assert any(line[1:] == ["diffusion/m", "(start", "2)", "bar", "20%"] for line in lines)


def test_a_log_has_a_line_for_every_change(tmp_path: Path) -> None:
    out = io.StringIO()
    with live_table(Console(file=out, width=60), PLAN, "a study") as watch:
        schedule = half_way(tmp_path)
        watch(schedule)
        watch(schedule)
        schedule.done.add("diffusion/m")
        watch(schedule)
    told = [line.split("  ", 1)[1] for line in out.getvalue().splitlines()]
    assert told == [
        "diffusion/m: running, start 2",
        "offline/c: failed: exit code 1: broke",
        "offline/d: blocked by offline/c: exit code 1: broke",
        "diffusion/m: done",
    ]

"""This command does all the runs of a study: data sets x algorithms x seeds, and SynthER or not.

    python3 synther/sweep.py --study config/sweeps/tiny.yaml

Every job is a command of the project in a folder of its own under ``--folder``, with its log. A job
that is done is skipped and one that was cut off is resumed, so that the same command finishes a
study that was stopped in any way. At the end ``report/`` holds tables and curves of what is done.
The jobs run on Ray, on this machine or on a cluster (``--address``); with ``--slurm`` the command
writes job arrays instead.
"""

from __future__ import annotations

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from synther.ranges import CountFrom0, NotNegative
from synther.reports.render import render
from synther.reports.runs import read_runs
from synther.runs.command_line import CommandParser
from synther.runs.commands import COUNT, Exit, argument, command_errors
from synther.sweeps.board import live_table, print_plan
from synther.sweeps.checks import check
from synther.sweeps.execute import FolderInUseError, locked, run_job
from synther.sweeps.jobs import Job
from synther.sweeps.plan import build_plan, with_gpus, write_plan
from synther.sweeps.ray_engine import ray_engine
from synther.sweeps.schedule import Schedule
from synther.sweeps.sections import StudyError
from synther.sweeps.slurm_files import write_arrays
from synther.sweeps.study import Study, load_study

console = Console(soft_wrap=True, markup=False)  # a path stays whole, brackets and all


def build_parser() -> CommandParser:
    parser = CommandParser(
        "Do all the runs of a study, or what is left of them.",
        "synther sweep --study config/sweeps/tiny.yaml --dry_run",
    )
    add = parser.add_argument
    add("--study", type=Path, required=True, help="YAML file, see config/sweeps")
    add(
        "--folder",
        type=Path,
        help="folder of all that it makes (default: sweeps/NAME-OF-THE-STUDY)",
    )
    starts, share = argument(CountFrom0), argument(NotNegative)
    add("--retries", type=starts, default=2, help="further starts of a failed job (default: 2)")
    add("--gpus_per_run", type=share, help="share of a GPU for a run, in place of the study's")
    add("--gpus_per_model", type=share, help="the same for training a diffusion model")
    add("--address", help="a Ray cluster whose nodes share --folder (default: this machine)")
    add("--cpus", type=COUNT, help="CPUs of this machine to use (default: all)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry_run", action="store_true", help="print the plan and do nothing")
    what.add_argument(
        "--slurm",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="do nothing but write job arrays (default: in slurm/ of --folder)",
    )
    what.add_argument("--job", metavar="NAME", help="do this one job, here and without Ray")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    args = build_parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    with command_errors(FolderInUseError, resume=False):
        if not run(args):
            raise SystemExit(int(Exit.ERROR))


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def run(args: argparse.Namespace) -> bool:
    """Do what was asked for, and return whether all of it was done."""
    study = with_gpus(load_study(args.study), args.gpus_per_run, args.gpus_per_model)
    plan = build_plan(study)
    root: Path = (args.folder or Path("sweeps") / study.name).resolve()
    if args.job is not None:
        return _do_job(args.job, plan, root)
    check(study, plan)
    if args.dry_run:
        print_plan(console, plan, root)
        return True
    if args.slurm is not None:
        folder = Path(args.slurm).resolve() if args.slurm else root / "slurm"
        files = write_arrays(study, plan, root, folder)
        write_plan(study, plan, root)
        _say(*files)
        return True
    with locked(root / "lock"):
        write_plan(study, plan, root)
        return _do_all(args, study, plan, root)


def _do_all(args: argparse.Namespace, study: Study, plan: list[Job], root: Path) -> bool:
    schedule = Schedule(plan, root, args.retries)
    if schedule.waiting:
        with ray_engine(plan, root, address=args.address, cpus=args.cpus) as engine:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, _stop)  # Ray has set its own
            with live_table(console, plan, f"{study.name} in {root}") as watch:
                schedule.run(engine, watch)
    for name, reason in schedule.failed.items():
        log = root / name / "log.txt"
        _say(f"failed: {name}: {reason}\n  {log}")
    for name, reason in schedule.blocked.items():
        _say(f"blocked: {name} by {reason}")
    written = render(read_runs([root]), root / "report")
    _say(f"{len(schedule.done)} of {len(plan)} jobs done", *written)
    return not schedule.failed and not schedule.blocked


def _do_job(name: str, plan: list[Job], root: Path) -> bool:
    jobs = {job.name: job for job in plan}
    if name not in jobs:
        raise StudyError(f"--job {name}: not in the plan; --dry_run prints it")
    job = jobs[name]
    for need in job.needs:
        if not jobs[need].is_done(root):
            raise StudyError(f"--job {name}: blocked, {need} is not done")
    outcome = run_job(job, root)
    _say(f"{name}: {outcome.failure or 'done'}")
    return not outcome.failure


def _say(*lines: object) -> None:
    console.print(*lines, sep="\n", highlight=False, markup=False)


if __name__ == "__main__":
    main()

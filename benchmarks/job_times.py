"""How long each job takes on this machine, from its rate over half a minute.

    python3 benchmarks/job_times.py [--only 'sac*' ...] [--seconds 25] [--list]

Each job runs in a process of its own, first with all instructions that the processor has, then with
those of one that stops at AVX2 (as ``make test-elsewhere`` does it), and is made of parts:
training steps, samples, updates, evaluations, refills. A part's rate is taken after a warm-up,
and the time of the whole job is the sum of its parts' times; ``make demo`` is run to its end. The
peak of the memory is that of the process. What is measured already is kept, so that the command can
be stopped and started again; ``--again`` measures anew. The machine should have nothing else to do.

The results are in ``job_times.json`` of the working folder, the table in ``job_times.md`` beside
it; those of the README are in ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from job_parts import JOBS
from studies import processor_name

from synther.files.atomic import write_text
from synther.runs.bars import duration
from synther.runs.commands import command_errors
from synther.runs.runtime import available_cpus, cpu_threads

ROOT = Path(__file__).parents[1]
RESULTS = Path("job_times.json")
WHOLE, AVX2 = "as it is", "AVX2"


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.measure:
        print(json.dumps(measured(args.measure, args.seconds)))
        return
    chosen = [name for name in JOBS if any(fnmatch.fnmatch(name, each) for each in args.only)]
    if not chosen:
        parser.error(f"--only {' '.join(args.only)}: no such job; there are {', '.join(JOBS)}")
    if args.list:
        print("\n".join(f"{name:15s} {JOBS[name].title}" for name in chosen))
        return
    results = read(args.output)
    for name in chosen:
        for machine in args.instructions:
            key = f"{name}, {machine}"
            if key in results["jobs"] and not args.again:
                continue
            print(f"{key} ...", flush=True)
            results["jobs"][key] = found = in_process(name, machine, args.seconds)
            print("  " + line(found), flush=True)
            write_text(args.output, json.dumps(results, indent=1) + "\n")
            write_text(args.output.with_suffix(".md"), table(results))
    print(table(results))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python3 benchmarks/job_times.py --only demo 'sac*'",
    )
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        default=["*"],
        metavar="JOB",
        help="these jobs; patterns (default: all)",
    )
    add("--list", action="store_true", help="the jobs by name, and no more")
    add("--seconds", type=float, default=25.0, help="of each part (default: %(default)s)")
    text = "as they are here, and restricted to AVX2 (default: both)"
    both = [WHOLE, AVX2]
    add("--instructions", nargs="+", choices=both, default=both, metavar="WHICH", help=text)
    add("--again", action="store_true", help="measure what was measured already")
    add("--output", type=Path, default=RESULTS, help="the results (default: %(default)s)")
    add("--measure", choices=list(JOBS), metavar="JOB", help="one job, in this process, as JSON")
    return parser


def measured(name: str, seconds: float) -> dict[str, Any]:
    """Rate, units and time of each part of a job, the time of all, and the memory in MB."""
    torch.manual_seed(0)
    parts = []
    for part in JOBS[name].parts():
        with cpu_threads(part.threads):
            rate = part.rate(seconds)
        parts.append({"unit": part.unit, "rate": rate, "units": part.units})
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "seconds": sum(part["units"] / part["rate"] for part in parts),
        "memory_mb": peak / (1024**2 if sys.platform == "darwin" else 1024),
        "parts": parts,
    }


def in_process(name: str, machine: str, seconds: float) -> dict[str, Any]:
    """:func:`measured` in a process that has these instructions."""
    command = [sys.executable, __file__, "--measure", name, "--seconds", str(seconds)]
    environment = os.environ | (avx2() if machine == AVX2 else {})
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: its process ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def avx2() -> dict[str, str]:
    """The environment variables of ``make test-elsewhere``."""
    text = (ROOT / ".ci" / "elsewhere.sh").read_text(encoding="utf-8")
    (variables,) = re.findall(r'^try "AVX2" (.*) "\$@"$', text, re.MULTILINE)
    return dict(each.split("=", 1) for each in variables.split())


def here() -> dict[str, Any]:
    """What the numbers are of."""
    return {
        "processor": processor_name(),  # what torch uses of it is the next entry
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cpus(),
        "torch": torch.__version__,
    }


def read(path: Path) -> dict[str, Any]:
    """The results so far.

    Raises:
        SystemExit: they are another machine's.
    """
    machine = here()
    if not path.exists():
        return {"machine": machine, "jobs": {}}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if results["machine"] != machine:
        raise SystemExit(
            f"{path} is of another machine, {results['machine']}: expected {machine}; name another "
            "file with --output, or move this one away"
        )
    return results


def line(found: dict[str, Any]) -> str:
    """A job's result in a line."""
    parts = (f"{part['rate']:.3g} {part['unit']} a second" for part in found["parts"])
    return f"{duration(found['seconds'])}, {found['memory_mb']:.0f} MB: {', '.join(parts)}"


def table(results: dict[str, Any]) -> str:
    """The page: a row for each job."""
    machine, jobs = results["machine"], results["jobs"]
    where = f"{machine['cores']} cores of an {machine['processor']}, torch {machine['torch']}"
    lines = [
        "# How long each job takes",
        "",
        f"`python3 benchmarks/job_times.py`, {where},",
        "with the settings that commands and gin files have, but for `redq_sac.epochs = 100`",
        "in the full online runs and a million samples a refill. Times are projected from",
        "rates over some seconds (`--seconds`), evaluations and refills included; the demo",
        "ran to its end.",
        "",
        f"| job | this processor ({machine['instructions']}) | restricted to AVX2 | memory |",
        "|---|---|---|---|",
    ]
    for name, job in JOBS.items():
        both = [jobs.get(f"{name}, {each}") for each in (WHOLE, AVX2)]
        if any(both):
            memory = max(each["memory_mb"] for each in both if each) / 1000
            times = " | ".join(_time(each) for each in both)
            lines.append(f"| {job.title} | {times} | {memory:.1f} GB |")
    return "\n".join(lines) + "\n"


def _time(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    first = found["parts"][0]
    rate = "" if first["units"] == 1 else f" ({first['rate']:.3g} {first['unit']}/s)"
    return duration(found["seconds"]) + rate


if __name__ == "__main__":
    with command_errors(resume=False):
        main()

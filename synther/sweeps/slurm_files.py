"""Slurm gets a job array for each kind of job, in batch files as submitit writes them.

``submit.sh`` hands them in, each array after the one it needs: subsets, diffusion models, runs. A
task does one job by ``sweep.py --job``: the very command line of the plan, which is resumed where
it was cut off and skipped where it is done. Handing the files in again thus does what is left.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from synther.files import atomic
from synther.installed import install_hint, shipped
from synther.suggestions import did_you_mean
from synther.sweeps.jobs import Job
from synther.sweeps.sections import Scalar, StudyError
from synther.sweeps.study import KINDS, Study

LONGEST_ARRAY = 1001
"""Slurm's own ``MaxArraySize``."""
DEFAULTS: Mapping[str, Scalar] = {"time": 24 * 60}  # minutes
_TASK = 'cd {here} && sh -c "$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {file})"'


def write_arrays(
    study: Study, plan: Sequence[Job], root: Path, folder: Path, longest: int | None = None
) -> list[Path]:
    """Write ``{kind}.sbatch`` and its ``{kind}.tasks`` (a command line a task), and ``submit.sh``.
    A kind with more jobs than an array may have tasks gets ``{kind}-1``, ``{kind}-2``, ...

    Args:
        study: its ``slurm`` section has parameters of sbatch by submitit's names (``partition``,
            ``time`` in minutes, ``mem``, ...).
        plan: the jobs; those that are done are left out.
        root: the study's folder, on a disk that all nodes share.
        folder: of the files.
        longest: tasks that an array may have; None asks the site.

    Returns:
        The files.

    Raises:
        StudyError: submitit is not installed, or has no such parameter.
    """
    arrays = {
        kind: [job for job in plan if job.kind == kind and not job.is_done(root)] for kind in KINDS
    }
    written, names = [], dict[str, list[str]]()
    for kind, jobs in arrays.items():
        parts = _parts(jobs, longest or longest_array())
        names[kind] = [f"{kind}-{n + 1}" if len(parts) > 1 else kind for n in range(len(parts))]
        for name, part in zip(names[kind], parts, strict=True):
            tasks, batch = folder / f"{name}.tasks", folder / f"{name}.sbatch"
            atomic.write_text(tasks, "".join(f"{_command(study, job, root)}\n" for job in part))
            atomic.write_text(batch, _batch_file(study, part, tasks, folder))
            written += [tasks, batch]
    submit = folder / "submit.sh"
    atomic.write_text(submit, _submit_file(names))
    submit.chmod(0o755)
    return [*written, submit]


def longest_array() -> int:
    """The number of tasks that an array of this site may have, or of Slurm's own settings where the
    site cannot be asked."""
    if shutil.which("scontrol") is None:
        return LONGEST_ARRAY
    asked = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    found = re.search(r"^MaxArraySize\s*=\s*([0-9]+)", asked.stdout, re.MULTILINE)
    # The size is one more than the highest number of a task, and numbers begin with 0.
    return max(1, int(found[1])) if found else LONGEST_ARRAY


def _parts(jobs: Sequence[Job], longest: int) -> list[Sequence[Job]]:
    return [jobs[first : first + longest] for first in range(0, len(jobs), longest)]


def _command(study: Study, job: Job, root: Path) -> str:
    here = Path(study.file)
    file = here.resolve() if here.is_file() else shipped(here)
    # A job that has no share of a GPU sees none, whatever the array was given.
    share = {"data": (), "diffusion": ("--gpus_per_model", f"{job.resources.gpus}")}
    words = [
        *(sys.executable, str(shipped("synther/sweep.py"))),
        *("--study", str(file), "--folder", str(root)),
        *share.get(job.kind, ("--gpus_per_run", f"{job.resources.gpus}")),
        *("--job", job.name),
    ]
    return shlex.join(words)


def _batch_file(study: Study, jobs: Sequence[Job], tasks: Path, folder: Path) -> str:
    try:
        from submitit.slurm import slurm
    except ImportError as error:
        raise StudyError(
            f"submitit is not installed: {install_hint('slurm')}; without --slurm the study "
            "runs on Ray"
        ) from error
    known = tuple(slurm._get_default_parameters())
    for name in study.slurm:
        if name not in known:
            raise StudyError(f"{study.file}: slurm.{name}: no such key{did_you_mean(name, known)}")
    needs = jobs[0].resources
    parameters = {
        **DEFAULTS,
        "job_name": f"{study.name}-{jobs[0].kind}",
        "cpus_per_task": math.ceil(needs.cpus),
        **({"gpus_per_node": math.ceil(needs.gpus)} if needs.gpus else {}),
        **study.slurm,
    }
    # submitit's executors can only hand in; this is the function that they write the file with.
    return slurm._make_sbatch_string(  # type: ignore[no-any-return, unused-ignore]
        # Where sbatch starts it, in the folder of the files, the study's names mean others.
        command=_TASK.format(here=shlex.quote(str(Path.cwd())), file=shlex.quote(str(tasks))),
        folder=folder / "logs",
        map_count=len(jobs),
        use_srun=False,
        stderr_to_stdout=True,
        **parameters,  # type: ignore[arg-type, unused-ignore]
    )


def _submit_file(names: Mapping[str, Sequence[str]]) -> str:
    """A kind waits for the end of the ones before it, whatever it was: a task whose data are not
    there says so and ends, and the others need not wait for it."""
    lines = ["#!/bin/sh", "# Hands the arrays in, each after what it needs.", "set -e"]
    lines += ['cd "$(dirname "$0")"', "mkdir -p logs", "after=", "refused() {"]
    lines += ['  echo "error: sbatch refused $1.sbatch; what is named above is handed in" >&2']
    lines += ["  exit 1", "}"]
    for kind, arrays in names.items():
        if not arrays:
            continue
        lines.append("ids=")
        for name in arrays:
            # Not in a pipe, whose end would hide that it failed. --parsable: "id" or "id;cluster".
            lines.append(f"id=$(sbatch --parsable $after {name}.sbatch) || refused {name}")
            lines += ["id=${id%%;*}", f'echo "{name}: $id"', 'ids="$ids:$id"']
        if kind in ("data", "diffusion"):
            lines.append('after="--dependency=afterany$ids"')
    return "\n".join(lines) + "\n"

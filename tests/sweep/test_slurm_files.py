"""Job arrays, run by a shell in which ``sbatch`` writes down what it was given."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from synther.sweeps.plan import build_plan, with_gpus
from synther.sweeps.sections import StudyError
from synther.sweeps.slurm_files import longest_array, write_arrays
from tests.sweep.helpers import SMALL, finish_offline, study_of

pytest.importorskip("submitit")

ARRAYS = SMALL | {
    "offline": [{**SMALL["offline"][0], "fractions": [0.5, 1]}],
    "resources": {"diffusion": {"cpus": 2, "gpus": 0.5}},
    "slurm": {"time": 77, "partition": "gpu"},
}


def test_a_task_for_every_job_and_an_array_for_every_kind(tmp_path: Path) -> None:
    study = study_of(tmp_path, ARRAYS)
    plan = build_plan(study)
    files = write_arrays(study, plan, tmp_path / "root", tmp_path / "slurm")
    names = {file.name for file in files}
    kinds = ("data", "diffusion", "offline")
    assert names == {f"{k}.{end}" for k in kinds for end in ("tasks", "sbatch")} | {"submit.sh"}
    for kind in kinds:
        lines = (tmp_path / "slurm" / f"{kind}.tasks").read_text().splitlines()
        words = [shlex.split(line) for line in lines]
        assert [each[-2:] for each in words] == [
            ["--job", job.name] for job in plan if job.kind == kind
        ]
        assert all(each[1].endswith("synther/sweep.py") for each in words)
        batch = (tmp_path / "slurm" / f"{kind}.sbatch").read_text()
        assert f"#SBATCH --array=0-{len(lines) - 1}%{len(lines)}" in batch
        assert "#SBATCH --time=77" in batch
        assert "#SBATCH --partition=gpu" in batch
    diffusion = (tmp_path / "slurm/diffusion.sbatch").read_text()
    assert "#SBATCH --gpus-per-node=1" in diffusion  # Slurm has no halves
    assert "#SBATCH --cpus-per-task=2" in diffusion


def test_what_is_done_is_left_out(tmp_path: Path) -> None:
    study = study_of(tmp_path, SMALL)
    plan = build_plan(study)
    done = next(job for job in plan if job.kind == "offline")
    finish_offline(done.run(tmp_path) / "x", list(done.seeds))
    write_arrays(study, plan, tmp_path, tmp_path / "slurm")
    lines = (tmp_path / "slurm/offline.tasks").read_text()
    assert len(lines.splitlines()) == 3
    assert done.name + "\n" not in lines


def test_a_task_of_the_array_runs_its_own_line(tmp_path: Path) -> None:
    study = study_of(tmp_path, SMALL)
    plan = build_plan(study)
    write_arrays(study, plan, tmp_path / "a root", tmp_path / "slurm")
    tasks = tmp_path / "slurm/offline.tasks"
    runs = [job.name for job in plan if job.kind == "offline"]
    tasks.write_text("".join(f"echo '{name}'; exit 3\n" for name in runs))
    for index, name in enumerate(runs):
        done = subprocess.run(
            ["bash", str(tmp_path / "slurm/offline.sbatch")],
            env={**os.environ, "SLURM_ARRAY_TASK_ID": str(index)},
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == name
        assert done.returncode == 3


def test_a_task_sees_the_files_and_the_share_that_the_study_was_written_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm").mkdir()
    study = with_gpus(study_of(tmp_path, SMALL), 0.5, 2)
    write_arrays(study, build_plan(study), tmp_path / "root", tmp_path / "slurm")
    for kind, share in (("offline", "--gpus_per_run 0.5"), ("diffusion", "--gpus_per_model 2")):
        tasks = tmp_path / f"slurm/{kind}.tasks"
        assert all(f" {share} --job " in line for line in tasks.read_text().splitlines())
    tasks.write_text("pwd\n")
    done = subprocess.run(
        ["bash", str(tmp_path / "slurm/diffusion.sbatch")],
        env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"},
        cwd=tmp_path / "slurm",  # where submit.sh hands it in
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(tmp_path)


def test_arrays_are_handed_in_after_what_they_need(tmp_path: Path) -> None:
    study = study_of(tmp_path, ARRAYS)
    files = write_arrays(study, build_plan(study), tmp_path, tmp_path / "slurm")
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nwc -l < {tmp_path}/calls\n')
    sbatch.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run([str(files[-1])], env={**os.environ, "PATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().splitlines() == [
        "--parsable data.sbatch",
        "--parsable --dependency=afterany:1 diffusion.sbatch",
        "--parsable --dependency=afterany:2 offline.sbatch",
    ]


def test_unknown_parameters_are_refused(tmp_path: Path) -> None:
    study = study_of(tmp_path, SMALL | {"slurm": {"partitoin": "gpu"}})
    with pytest.raises(StudyError, match=r"slurm\.partitoin: no such key; did you mean partition"):
        write_arrays(study, build_plan(study), tmp_path, tmp_path / "slurm")
    assert not (tmp_path / "slurm/submit.sh").exists()


def fake(folder: Path, name: str, script: str) -> dict[str, str]:
    """The environment in which a program of that name is this shell script."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_an_array_over_the_limit_is_split(tmp_path: Path) -> None:
    study = study_of(tmp_path, SMALL)
    plan = build_plan(study)
    runs = [job.name for job in plan if job.kind == "offline"]
    assert len(runs) == 4
    files = write_arrays(study, plan, tmp_path, tmp_path / "slurm", longest=3)
    parts = [(tmp_path / f"slurm/offline-{n}.tasks").read_text().splitlines() for n in (1, 2)]
    assert [shlex.split(line)[-1] for part in parts for line in part] == runs
    assert "--array=0-2%3" in (tmp_path / "slurm/offline-1.sbatch").read_text()
    assert "--array=0-0%1" in (tmp_path / "slurm/offline-2.sbatch").read_text()
    env = fake(tmp_path, "sbatch", f'echo "$@" >> {tmp_path}/calls; wc -l < {tmp_path}/calls')
    assert subprocess.run([str(files[-1])], env=env).returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[-1] for call in calls[-2:]] == ["offline-1.sbatch", "offline-2.sbatch"]
    assert calls[-2].split()[:-1] == calls[-1].split()[:-1]  # both after the models alone


def test_what_waits_waits_for_all_parts(tmp_path: Path) -> None:
    study = study_of(tmp_path, ARRAYS)
    files = write_arrays(study, build_plan(study), tmp_path, tmp_path / "slurm", longest=1)
    script = f'echo "$@" >> {tmp_path}/calls; echo "$(wc -l < {tmp_path}/calls);cluster"'
    subprocess.run([str(files[-1])], env=fake(tmp_path, "sbatch", script), check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    models = [n for n, call in enumerate(calls, start=1) if "diffusion-" in call]
    assert len(models) > 1
    expected = (
        "--parsable --dependency=afterany:" + ":".join(map(str, models)) + " offline-1.sbatch"
    )
    assert expected in calls


def test_a_site_is_asked_for_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PATH", fake(tmp_path, "scontrol", "echo 'MaxArraySize            = 77'")["PATH"]
    )
    assert longest_array() == 77
    fake(tmp_path, "scontrol", "echo 'slurm_load_ctl_conf error' >&2; exit 1")
    assert longest_array() == 1001
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert longest_array() == 1001


def test_a_refused_array_stops_the_script(tmp_path: Path) -> None:
    study = study_of(tmp_path, ARRAYS)
    files = write_arrays(study, build_plan(study), tmp_path, tmp_path / "slurm")
    script = f"""echo "$@" >> {tmp_path}/calls
case "$*" in *diffusion*) echo "sbatch: error: invalid partition" >&2; exit 1;; esac
echo 7"""
    done = subprocess.run(
        [str(files[-1])], env=fake(tmp_path, "sbatch", script), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "sbatch: error: invalid partition" in done.stderr
    assert "error: sbatch refused diffusion.sbatch" in done.stderr
    assert done.stdout == "data: 7\n"
    assert len((tmp_path / "calls").read_text().splitlines()) == 2  # offline was not handed in

"""The command: what it refuses, what it prints, and a study on Ray."""

from __future__ import annotations

import contextlib
import copy
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from synther import sweep
from synther.installed import CHECKOUT as ROOT
from synther.sweeps.jobs import Job, record
from synther.sweeps.ray_engine import ray_engine
from synther.sweeps.schedule import Schedule
from synther.sweeps.sections import StudyError
from tests.sweep.helpers import SMALL, SUCCEED, fake_job, finish_offline, starts_of

ONLINE = {
    "name": "online",
    "online": [
        {
            "envs": ["Hopper-v2"],
            "agents": {"SAC": {"gin_files": ["config/online/sac_small.gin"]}},
            "seeds": [0],
        }
    ],
}


def run(tmp_path: Path, content: dict[str, Any], *more: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    sweep.main(["--study", str(file), "--folder", str(tmp_path / "root"), *more])


def changed(content: dict[str, Any], section: str, **changes: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    content[section][0] |= changes
    return content


def test_a_dry_run_prints_the_plan_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    finish_offline(root / "offline/td3_bc-hopper-demo-v0-real-s1/run/x", [1])
    (root / "diffusion/hopper-demo-v0/run").mkdir(parents=True)
    before = sorted(root.rglob("*"))
    run(tmp_path, SMALL, "--dry_run")
    lines = capsys.readouterr().out.splitlines()
    states = {line[12:].split()[0]: line[:10].strip() for line in lines[:-1:2]}
    assert states == {
        "diffusion/hopper-demo-v0": "unfinished",
        "offline/td3_bc-hopper-demo-v0-real-s0": "to do",
        "offline/td3_bc-hopper-demo-v0-real-s1": "done",
        "offline/td3_bc-hopper-demo-v0-synther-s0": "to do",
        "offline/td3_bc-hopper-demo-v0-synther-s1": "to do",
    }
    assert "needs diffusion/hopper-demo-v0" in lines[6]
    assert "python3 synther/corl/algorithms/td3_bc.py --env hopper-demo-v0" in lines[7]
    assert lines[-1].endswith("1 done, 3 to do, 1 unfinished")
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(SMALL, "offline", data_sets=["hopper-demo"]), "did you mean hopper-demo-v0"),
        (changed(SMALL, "offline", data_sets=["a.npz"]), "a.npz: no such file"),
        (changed(SMALL, "offline", arguments={"batchsize": 1}), "did you mean --batch_size"),
        (changed(SMALL, "offline", arguments={"alpha": "much"}), "expected a number, got 'much'"),
        (SMALL | {"diffusion": {"gin_files": ["none.gin"]}}, "gin file 'none.gin' is not there"),
        (SMALL | {"diffusion": {"gin_params": ["Trainer.steps = 1"]}}, "no parameter 'steps'"),
        (SMALL | {"diffusion": {"arguments": {"sampler": "slow"}}}, "invalid choice: 'slow'"),
        (SMALL | {"diffusion": {"arguments": {"smpler": 1}}}, "unrecognized arguments: --smpler"),
        (
            changed(ONLINE, "online", agents={"A": {"gin_files": ["x.gin"]}}),
            r"online\[0\].agents.A: gin file 'x.gin' is not there",
        ),
        (
            ONLINE | {"resources": {"online": {"cpus": 5000}}},
            "online/SAC-Hopper-v2-s0: .*--threads: .*expected from 0 to 1024",
        ),
        (
            changed(SMALL, "offline", arguments={"load_model": "out/nothing"}),
            "load_model: out/nothing is not there; expected a checkpoint",
        ),
    ],
)
def test_what_a_command_would_refuse_is_refused_at_the_door(
    content: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(tmp_path, content)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'study.yaml'}")
    assert re.search(message, said)
    assert not (tmp_path / "root").exists()


def test_an_unknown_environment_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco")
    with pytest.raises(SystemExit):
        run(tmp_path, changed(ONLINE, "online", envs=["Hoper-v2"]), "--dry_run")
    assert "no environment 'Hoper-v2'; nearest: Hopper-v2" in capsys.readouterr().err


def test_every_agent_is_tried_in_every_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synther.sweeps.checks.make_env", lambda _: contextlib.ExitStack())
    agent = {
        "gin_files": ["config/online/sac_small.gin"],
        "gin_params": ["redq_sac.target_entropy = 'mbpo'"],
    }
    both = changed(ONLINE, "online", envs=["Hopper-v2", "Pendulum-v1"], agents={"SAC": agent})
    with pytest.raises(SystemExit):
        run(tmp_path, both, "--dry_run")
    said = capsys.readouterr().err
    assert "online[0].agents.SAC: redq_sac.target_entropy" in said
    assert "the environment being Pendulum-v1" in said


def test_paths_of_the_command_are_those_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("study.yaml").write_text(yaml.safe_dump(SMALL))
    words = ["--study=~/study.yaml", "--folder=~/root"]
    sweep.main([*words, "--slurm"])
    assert Path("root/slurm/submit.sh").is_file()
    sweep.main([*words, "--slurm", "out"])
    sweep.main([*words, "--slurm=~/home"])
    assert Path("out/submit.sh").is_file()
    assert Path("home/submit.sh").is_file()
    assert {each.name for each in Path("root").iterdir()} == {"slurm", "plan.json"}


def test_one_job_of_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, SMALL, "--job", "offline/none")
    assert "not in the plan" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(tmp_path, SMALL, "--job", "offline/td3_bc-hopper-demo-v0-synther-s0")
    assert "blocked, diffusion/hopper-demo-v0 is not done" in capsys.readouterr().err


def test_a_missing_ray_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StudyError, match=r"pip install -e .*\[ray\]"), ray_engine([], tmp_path):
        pass


def test_a_study_on_ray(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    plan: Sequence[Job] = [
        fake_job(tmp_path, "data/good", SUCCEED),
        fake_job(tmp_path, "data/flaky", "if len(starts.read_text()) > 1: " + SUCCEED),
        fake_job(tmp_path, "data/bad", "raise SystemExit('never')\n"),
        fake_job(tmp_path, "data/after", SUCCEED, ("data/good", "data/flaky")),
        fake_job(tmp_path, "data/lost", SUCCEED, ("data/bad",)),
    ]
    schedule = Schedule(plan, tmp_path, retries=1)
    with ray_engine(plan, tmp_path, cpus=2) as engine:
        schedule.run(engine, lambda _: None, pause=0.1)
    assert schedule.done == {"data/good", "data/flaky", "data/after"}
    assert schedule.failed == {"data/bad": "exit code 1: never"}
    assert schedule.blocked == {"data/lost": "data/bad: exit code 1: never"}
    assert [starts_of(job, tmp_path) for job in plan] == [1, 2, 2, 1, 0]
    assert record(plan[0], tmp_path)["state"] == "done"


@pytest.mark.parametrize("command", ["sweep.py", "report.py"])
def test_the_commands_start_as_files_from_anywhere(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "synther" / command), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout

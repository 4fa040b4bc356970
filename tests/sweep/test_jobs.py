"""What is done is told from what the commands wrote, never from a state file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synther.sweeps.jobs import Job, record, update_record
from synther.sweeps.plan import build_plan
from synther.sweeps.sections import StudyError
from tests.sweep.helpers import SMALL, finish_offline, finish_online, study_of

OFFLINE = Job("offline/a", "offline", "a.py", ("--x", "{folder}/y"), seeds=(0, 1))
ONLINE = Job("online/a", "online", "a.py", (), seeds=(0,))
ONLINE_GRID = {
    "online": [
        {
            "envs": ["Hopper-v2"],
            "agents": {"SAC": {"gin_files": ["config/online/sac_small.gin"]}},
            "seeds": [0],
        }
    ]
}
DIFFUSION = Job("diffusion/a", "diffusion", "a.py", (), output="samples.npz")


@pytest.mark.parametrize("job", [OFFLINE, ONLINE, DIFFUSION], ids=lambda job: job.kind)
def test_a_state_file_alone_is_not_believed(job: Job, tmp_path: Path) -> None:
    update_record(job, tmp_path, state="done")
    assert job.state(tmp_path) == "to do"
    job.run(tmp_path).mkdir()
    assert job.state(tmp_path) == "unfinished"


def test_offline_is_done_with_the_result_of_its_seeds(tmp_path: Path) -> None:
    run = OFFLINE.run(tmp_path)
    finish_offline(run / "a-s0", [0])
    assert not OFFLINE.is_done(tmp_path)
    (run / "a-s0to1").mkdir()
    (run / "a-s0to1/result.json").write_text('{"seeds": [0,')  # cut off
    assert not OFFLINE.is_done(tmp_path)
    finish_offline(run / "a-s0to1-2", [0, 1])
    assert OFFLINE.is_done(tmp_path)


@pytest.mark.parametrize(("steps", "done"), [(100, False), (200, False), (300, True)])
def test_online_is_done_with_its_last_epoch(steps: int, done: bool, tmp_path: Path) -> None:
    finish_online(ONLINE.run(tmp_path) / "x/x_s0", 3, steps=steps)
    assert ONLINE.is_done(tmp_path) == done


def test_a_run_whose_files_are_damaged_is_not_done_and_stops_no_study(tmp_path: Path) -> None:
    run = ONLINE.run(tmp_path) / "x/x_s0"
    finish_online(run, 3, steps=300)
    lines = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(f"3\n{lines}")
    assert not ONLINE.is_done(tmp_path)
    finish_offline(OFFLINE.run(tmp_path) / "a-s0to1", [0, 1])
    (OFFLINE.run(tmp_path) / "a-s0to1/result.json").write_text("{}")
    assert not OFFLINE.is_done(tmp_path)


def test_a_model_is_done_with_its_samples_and_its_last_file(tmp_path: Path) -> None:
    run = DIFFUSION.run(tmp_path)
    run.mkdir(parents=True)
    (run / "samples.npz").touch()
    assert not DIFFUSION.is_done(tmp_path)
    (run / "marginals.png").touch()
    assert DIFFUSION.is_done(tmp_path)


def test_commands_resume_what_was_begun(tmp_path: Path) -> None:
    assert OFFLINE.command(tmp_path) == ["a.py", "--x", f"{tmp_path}/y", "--resume"]
    assert DIFFUSION.command(tmp_path) == ["a.py"]
    DIFFUSION.run(tmp_path).mkdir(parents=True)
    (DIFFUSION.run(tmp_path) / "run.json").write_text("{}")
    assert DIFFUSION.command(tmp_path) == ["a.py", "--resume"]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    OFFLINE.remember(tmp_path)
    OFFLINE.remember(tmp_path)
    other = Job("offline/a", "offline", "a.py", ("--x", "3"), seeds=(0, 1))
    with pytest.raises(StudyError, match=r"other settings \(then: \{folder\}/y; now: 3\)"):
        other.remember(tmp_path)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (("--env", "e", "--threads", "1"), ("--env", "e", "--threads", "2")),
        (("--threads", "1", "--env", "e"), ("--env", "e")),
        (("--env", "e"), ("--tensorboard", "--env", "e", "--wandb-mode", "offline")),
    ],
)
def test_how_a_command_runs_may_change(
    then: tuple[str, ...], now: tuple[str, ...], tmp_path: Path
) -> None:
    """Also where an earlier version has written such words down."""
    job = Job("offline/a", "offline", "a.py", now)
    file = job.folder(tmp_path) / "job.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"script": "a.py", "words": then, "seeds": []}))
    job.remember(tmp_path)
    file.unlink()
    job.remember(tmp_path)
    assert json.loads(file.read_text())["words"] == ["--env", "e"]
    with pytest.raises(StudyError, match=r"\(then: e; now: f\)"):
        Job("offline/a", "offline", "a.py", ("--env", "f")).remember(tmp_path)


@pytest.mark.parametrize("kind", ["diffusion", "online"])
def test_a_study_goes_on_with_other_resources(kind: str, tmp_path: Path) -> None:
    both = SMALL | ONLINE_GRID
    before, now = (
        next(job for job in build_plan(study_of(tmp_path, content)) if job.kind == kind)
        for content in (both, both | {"resources": {kind: {"cpus": 2}}})
    )
    before.remember(tmp_path)
    now.remember(tmp_path)
    assert "--threads 2" in " ".join(now.command(tmp_path))


def test_the_record_keeps_what_is_not_written_over(tmp_path: Path) -> None:
    assert record(ONLINE, tmp_path) == {}
    update_record(ONLINE, tmp_path, state="running", starts=1)
    update_record(ONLINE, tmp_path, state="failed")
    assert record(ONLINE, tmp_path) == {"state": "failed", "starts": 1}

"""Runs are found by their own files, and none is lost without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from synther.envs import normalized_score
from synther.reports.runs import read_runs
from tests.report.helpers import offline_run
from tests.sweep.helpers import finish_online


def test_a_stack_of_seeds_is_as_many_runs(tmp_path: Path) -> None:
    offline_run(tmp_path / "a", [[1.0, 5.0], [9.0, 4.0], [3.0, 2.0]], seeds=(7, 8))
    first, second = read_runs([tmp_path]).finished
    assert (first.seed, second.seed) == (7, 8)
    assert first.steps.tolist() == [10, 20, 30]
    assert second.values.tolist() == [5, 4, 2]
    assert (first.last, first.best) == (3, 9)
    assert (first.task, first.method, first.measure) == ("hopper-medium-v2", "TD3+BC", "score")


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"name": "TD3_BC"}, "TD3+BC"),
        ({"name": "SynthER", "diffusion.path": "s.npz"}, "TD3+BC + SynthER"),
        ({"name": "td3_bc-large"}, "TD3+BC (large)"),
        ({"name": "td3_bc-large", "diffusion.path": "m.pt"}, "TD3+BC (large) + SynthER"),
        ({"name": "my run"}, "TD3+BC (my)"),
        ({"name": "TD3_BC", "algorithm": "TD3+BC"}, "TD3+BC"),
        ({"name": "bc", "algorithm": "BC"}, "BC"),
        (
            {"name": "bc-large", "algorithm": "BC", "diffusion.path": "s.npz"},
            "BC (large) + SynthER",
        ),
        ({"name": "my-bc-large", "algorithm": "My-BC"}, "My-BC (large)"),
        ({"name": "other", "algorithm": "BC"}, "BC (other)"),
        ({"name": "x", "policy_noise": 0.1, "algorithm": "BC"}, "BC (x)"),
    ],
)
def test_names_of_methods(config: dict[str, str], method: str, tmp_path: Path) -> None:
    offline_run(tmp_path / "a", [[1.0]], **config)
    (run,) = read_runs([tmp_path]).finished
    assert run.method == method


def test_a_run_that_nobody_can_name_has_a_question_mark(tmp_path: Path) -> None:
    run = offline_run(tmp_path / "a", [[1.0]], finished=False, name="BC")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    del settings["policy_noise"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert read_runs([tmp_path]).unfinished[0].method == "? (BC)"
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "algorithm": "BC"}))
    assert read_runs([tmp_path]).unfinished[0].method == "BC"


def test_a_file_of_data_is_a_task_by_its_name(tmp_path: Path) -> None:
    offline_run(tmp_path / "a", [[1.0]], env="/some/where/hopper-15pct.npz")
    assert read_runs([tmp_path]).finished[0].task == "hopper-15pct"


def test_a_result_without_its_curve_is_a_point(tmp_path: Path) -> None:
    run = offline_run(tmp_path / "a", [[1.0], [6.0]])
    (run / "metrics.jsonl").unlink()
    (found,) = read_runs([tmp_path]).finished
    assert (found.steps.tolist(), found.values.tolist()) == ([20], [6.0])


def test_unfinished_runs_are_told_and_earlier_ones_are_not(tmp_path: Path) -> None:
    offline_run(tmp_path / "a", [[1.0], [2.0]], finished=False)
    offline_run(tmp_path / "b", [[1.0]], seeds=(1,))
    offline_run(tmp_path / "b/previous-1/old", [[7.0]], seeds=(2,))
    runs = read_runs([tmp_path])
    assert [run.seed for run in runs.finished] == [1]
    (left,) = runs.unfinished
    assert (left.name, left.method) == ("a", "TD3+BC")
    assert left.state == "stopped or running, 20 of 30 updates"


def test_online_runs_are_scored_where_there_are_references(tmp_path: Path) -> None:
    finish_online(tmp_path / "SAC_Hopper-v2/SAC_Hopper-v2_s0", 3, steps=300)
    task = "cheetah-run-v0"
    finish_online(tmp_path / f"SAC_{task}/SAC_{task}_s0", 3, steps=300, env=task)
    finish_online(tmp_path / "REDQ_Hopper-v2/REDQ_Hopper-v2_s0", 3, steps=200)
    runs = read_runs([tmp_path])
    hopper, cheetah = runs.finished
    assert (hopper.task, hopper.method, hopper.measure) == ("Hopper-v2", "SAC", "score")
    assert hopper.values.tolist() == normalized_score("Hopper-v2", [100, 200, 300]).tolist()
    assert (cheetah.task, cheetah.measure) == (task, "return")
    assert cheetah.values.tolist() == [100, 200, 300]
    (left,) = runs.unfinished
    assert left.state == "stopped or running, 200 of 300 environment steps"


def test_what_a_plan_has_and_nobody_began_is_told(tmp_path: Path) -> None:
    job = {
        "name": "offline/iql-d-synther-s0",
        "kind": "offline",
        "script": "synther/corl/algorithms/iql.py",
        "words": ["--env", "d", "--name", "iql", "--diffusion.path", "x.npz"],
    }
    begun = {**job, "name": "offline/begun"}
    online = {
        **job,
        "name": "online/o",
        "kind": "online",
        "words": ["--env", "e", "--exp_name", "S"],
    }
    new = {
        **job,
        "name": "offline/new",
        "script": "/some/where/mine.py",
        "words": ["--env", "d", "--name", "bc-large"],
        "algorithm": "BC",
    }
    model = {"name": "diffusion/d", "kind": "diffusion"}
    plan = {"jobs": [job, begun, new, online, model]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    offline_run(tmp_path / "offline/begun/run/x", [[1.0]])
    state = tmp_path / job["name"] / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"state": "blocked", "reason": "diffusion/d: broke"}))
    runs = read_runs([tmp_path])
    assert len(runs.finished) == 1
    first, third, second = runs.unfinished
    assert third.method == "BC (large)"
    assert (first.task, first.method) == ("d", "IQL + SynthER")
    assert first.state == "blocked: diffusion/d: broke"
    assert (second.method, second.state) == ("S", "not started")


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    offline_run(tmp_path / "offline/x/run/y", [[1.0]], finished=False)
    (tmp_path / "offline/x/state.json").write_text('{"state": "failed", "reason": "no disk"}')
    (left,) = read_runs([tmp_path]).unfinished
    assert left.state == "failed: no disk; stopped or running, 10 of 30 updates"


def in_the_list(folder: Path) -> dict[str, str]:
    return {each.name: each.state for each in read_runs([folder]).unfinished}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_run_of_nan_is_listed_and_the_others_are_reported(tmp_path: Path, value: float) -> None:
    offline_run(tmp_path / "a", [[1.0, 2.0], [3.0, value]], seeds=(0, 1))
    folder = tmp_path / "SAC_Hopper-v2/SAC_Hopper-v2_s0"
    finish_online(folder, 3, steps=300)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    last = {**json.loads(lines[-1]), "AverageTestEpRet": str(value)}  # as the logger writes it
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    assert [(run.path.name, run.seed) for run in read_runs([tmp_path]).finished] == [("a", 0)]
    assert in_the_list(tmp_path) == {
        "a, seed 1": f"its score at step 20 is {value}",
        "SAC_Hopper-v2/SAC_Hopper-v2_s0, seed 0": f"its score at step 300 is {value}",
    }


@pytest.mark.parametrize("line", ["3", "null", '["step"]', "{}", '{"step": "x"}', "{half", "\0\0"])
def test_a_line_that_is_no_record_is_named_and_hides_no_other_run(
    tmp_path: Path, line: str
) -> None:
    offline_run(tmp_path / "good", [[1.0]], seeds=(1,))
    for name, finished in (("bad", True), ("part", False)):
        run = offline_run(tmp_path / name, [[1.0], [2.0]], finished=finished)
        first, *others = (run / "metrics.jsonl").read_text().splitlines()
        (run / "metrics.jsonl").write_text("\n".join([first, line, *others]) + "\n")
    online = tmp_path / "online/SAC_Hopper-v2_s0"
    finish_online(online, 3, steps=300)
    with open(online / "metrics.jsonl", "a") as file:
        file.write(line)  # half-written, as far as anybody knows: the last line may be anything
    assert {run.path for run in read_runs([tmp_path]).finished} == {tmp_path / "good", online}
    listed = in_the_list(tmp_path)
    assert listed.keys() == {"bad", "part"}
    for state in listed.values():
        assert "metrics.jsonl: line 2 is no record" in state


def test_other_things_that_cannot_be_read_are_listed_too(tmp_path: Path) -> None:
    offline_run(tmp_path / "good", [[1.0]], seeds=(1,))
    yaml_file = offline_run(tmp_path / "yaml", [[1.0]], finished=False) / "config.yaml"
    yaml_file.write_text("[1")
    offline_run(tmp_path / "list", [[1.0]], finished=False).joinpath("config.yaml").write_text("3")
    lacking = offline_run(tmp_path / "lacking", [[1.0]]) / "result.json"
    result = json.loads(lacking.read_text())
    del result["seeds"]
    lacking.write_text(json.dumps(result))
    assert len(read_runs([tmp_path]).finished) == 1
    listed = in_the_list(tmp_path)
    assert listed.keys() == {"yaml", "list", "lacking"}
    assert listed["lacking"] == "cannot be read (no 'seeds')"


@pytest.mark.parametrize("above", ["previous-work", "previous-1"])
def test_a_folder_above_the_runs_may_have_any_name(tmp_path: Path, above: str) -> None:
    offline_run(tmp_path / above / "runs/a", [[1.0]])
    assert len(read_runs([tmp_path / above]).finished) == 1
    assert len(read_runs([tmp_path / above / "runs"]).finished) == 1
    offline_run(tmp_path / above / "runs/previous-attempts/b", [[1.0]], seeds=(4,))
    assert len(read_runs([tmp_path / above / "runs"]).finished) == 2


def test_a_run_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    offline_run(tmp_path / "a", [[1.0]])
    offline_run(tmp_path / "b", [[2.0]])
    with pytest.raises(ValueError, match="seed 0, is there twice"):
        read_runs([tmp_path])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_runs([tmp_path / "nothing"])

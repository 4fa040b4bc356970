"""Only runs of one experiment are averaged; what else differs in a cell is said below the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synther.reports.curves import cut_lines
from synther.reports.runs import Runs, read_runs
from synther.reports.tables import groups_of, scores_table
from tests.report.helpers import offline_run
from tests.sweep.helpers import finish_online


def names(runs: Runs) -> list[tuple[str, str, str, int]]:
    return [(run.task, run.method, run.measure, run.seed) for run in runs.finished]


def test_runs_of_unequal_length_are_no_seeds_of_each_other(tmp_path: Path) -> None:
    offline_run(tmp_path / "a", [[1.0]], seeds=(0,))
    offline_run(tmp_path / "b", [[1.0], [99.0]], seeds=(0,))
    offline_run(tmp_path / "c", [[2.0], [3.0]], seeds=(1,), **{"diffusion.path": "s.npz"})
    offline_run(tmp_path / "d", [[2.0], [3.0]], env="hopper-demo-v0")
    offline_run(tmp_path / "e", [[2.0]], seeds=(2,), max_timesteps=20, finished=False)
    runs = read_runs([tmp_path])
    assert names(runs) == [
        ("hopper-demo-v0", "TD3+BC", "score", 0),
        ("hopper-medium-v2", "TD3+BC [10 updates]", "score", 0),
        ("hopper-medium-v2", "TD3+BC [20 updates]", "score", 0),
        ("hopper-medium-v2", "TD3+BC [20 updates] + SynthER", "score", 1),
    ]
    table = scores_table(groups_of(runs)[0], runs, "last")
    assert table.rows[1] == ("hopper-medium-v2", "-", "60.4 ± 3.5", "1.0", "99.0*", "3.0")


def test_online_runs_of_unequal_length(tmp_path: Path) -> None:
    for seed, epochs in enumerate((2, 3)):
        run = tmp_path / f"SAC_Hopper-v2_s{seed}"
        finish_online(run, epochs, steps=100 * epochs)
        settings = json.loads((run / "run.json").read_text()) | {"seed": seed}
        (run / "run.json").write_text(json.dumps(settings))
    assert [run.method for run in read_runs([tmp_path]).finished] == [
        "SAC [200 steps]", "SAC [300 steps]",
    ]  # fmt: skip


def test_another_environment_is_another_task(tmp_path: Path) -> None:
    offline_run(tmp_path / "a", [[1.0]], seeds=(0,))
    offline_run(tmp_path / "b", [[2.0]], seeds=(1,), eval_env="Hopper-v2")  # the data's own
    offline_run(tmp_path / "c", [[3.0]], seeds=(0,), eval_env="Hopper-v5")
    offline_run(tmp_path / "d", [[4.0]], seeds=(0,), env_kwargs='{"gravity":1.6}')
    offline_run(tmp_path / "e", [[5.0]], seeds=(1,), env_kwargs='{"gravity": 1.6}')
    runs = read_runs([tmp_path])
    assert names(runs) == [
        ("hopper-medium-v2", "TD3+BC", "score", 0),
        ("hopper-medium-v2", "TD3+BC", "score", 1),
        ("hopper-medium-v2 in Hopper-v5", "TD3+BC", "score", 0),
        # No reference policy has played in it, so that its returns are no scores.
        ('hopper-medium-v2 {"gravity": 1.6}', "TD3+BC", "return", 0),
        ('hopper-medium-v2 {"gravity": 1.6}', "TD3+BC", "return", 1),
    ]
    assert runs.finished[-1].values.tolist() == [150.0]


def test_returns_have_no_published_scores_beside_them(tmp_path: Path) -> None:
    offline_run(tmp_path / "a", [[4.0]], env_kwargs='{"gravity":1.6}')
    runs = read_runs([tmp_path])
    assert runs.finished[0].task == "hopper-medium-v2"  # there is no other to be told from
    (group,) = groups_of(runs)
    assert scores_table(group, runs, "last").header == ("", "TD3+BC")


def test_an_online_environment_with_arguments_has_no_scores(tmp_path: Path) -> None:
    run = tmp_path / "SAC_Hopper-v2_s0"
    finish_online(run, 3, steps=300)
    settings = json.loads((run / "run.json").read_text()) | {"env_kwargs": "{'gravity': 1.6}"}
    (run / "run.json").write_text(json.dumps(settings))
    assert [each.measure for each in read_runs([tmp_path]).finished] == ["return"]


@pytest.mark.parametrize("seed", [0, 1])
def test_files_of_one_name_are_different_data(tmp_path: Path, seed: int) -> None:
    offline_run(tmp_path / "a", [[1.0]], env="/x/setA/train.npz", seeds=(0,))
    offline_run(tmp_path / "b", [[9.0]], env="/x/setB/train.npz", seeds=(seed,))
    tasks = [run.task for run in read_runs([tmp_path]).finished]
    assert tasks == ["setA/train", "setB/train"]


def test_a_subset_of_a_study_is_the_same_in_any_folder(tmp_path: Path) -> None:
    for seed, root in enumerate(("/x/one", "/y/two")):
        file = f"{root}/data/hopper-15pct/run/hopper-15pct.npz"
        offline_run(tmp_path / root[1], [[1.0]], env=file, seeds=(seed,))
    assert {run.task for run in read_runs([tmp_path]).finished} == {"hopper-15pct"}


def test_other_settings_that_differ_in_a_cell_are_named(tmp_path: Path) -> None:
    free: list[dict[str, Any]] = [{"device": "cpu", "threads": 1}, {"device": "cuda", "threads": 2}]
    for seed, alpha in enumerate((1.0, 2.5)):
        offline_run(tmp_path / f"a{seed}", [[1.0]], seeds=(seed,), alpha=alpha, **free[seed])
        offline_run(tmp_path / f"b{seed}", [[1.0]], seeds=(seed,), env="u", **free[seed])
    runs = read_runs([tmp_path])
    table = scores_table(groups_of(runs)[0], runs, "last")
    assert [row[1] for row in table.rows[:2]] == ["1.0 ± 0.0†", "1.0 ± 0.0"]
    assert "settings differ (TD3+BC on hopper-medium-v2: alpha 1.0, 2.5)" in table.note
    assert r"$\dagger$" in table.latex()
    offline_run(tmp_path / "again", [[1.0]], seeds=(0,), alpha=3.0)
    with pytest.raises(ValueError, match=r"is there twice with other settings \(alpha 1.0, 3.0\)"):
        read_runs([tmp_path])


def test_a_curve_that_leaves_evaluations_out_is_named(tmp_path: Path) -> None:
    offline_run(tmp_path / "a", [[1.0], [2.0]], seeds=(0,))
    offline_run(tmp_path / "b", [[1.0], [2.0]], seeds=(1,))
    assert cut_lines(groups_of(read_runs([tmp_path]))) == []
    (tmp_path / "b/metrics.jsonl").unlink()
    assert cut_lines(groups_of(read_runs([tmp_path]))) == ["TD3+BC on hopper-medium-v2"]


@pytest.mark.parametrize("env", ["mod:Env-v0", "dm/mod:Env-v0"])
def test_the_name_of_an_environment_leaves_the_methods_alone(tmp_path: Path, env: str) -> None:
    name = env.replace("/", "_").replace(":", "_")
    finish_online(tmp_path / f"SAC_{name}/SAC_{name}_s0", 3, steps=300, env=env)
    (run,) = read_runs([tmp_path]).finished
    assert (run.task, run.method) == (env, "SAC")

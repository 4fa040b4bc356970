"""Every cell of a grid is in the plan once, with the files that it needs before it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synther.installed import CHECKOUT
from synther.sweeps.algorithms import shipped
from synther.sweeps.plan import build_plan, label_of, with_gpus, write_plan, yaml_of
from synther.sweeps.sections import StudyError
from synther.sweeps.study import Diffusion, OfflineGrid, Resources, Study
from tests.sweep.helpers import SMALL, study_of

RESOURCES = {kind: Resources() for kind in ("data", "diffusion", "offline", "online")}

OWN = """
from dataclasses import dataclass
from synther.corl.shared.config import RunConfig
@dataclass
class MineConfig(RunConfig):
    name: str = "Mine"
"""


def some(values: list[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True).map(tuple)


def study_with(*grids: OfflineGrid) -> Study:
    return Study("s", "s.yaml", Diffusion(), grids, (), RESOURCES, {})  # type: ignore[arg-type]


grids = st.builds(
    OfflineGrid,
    data_sets=some(["hopper-demo-v0", "hopper-medium-v2", "maze2d-umaze-v1"]),
    algorithms=some(list(shipped())),
    seeds=some(list(range(6))),
    fractions=some([1.0, 0.5, 0.05]),
    synther=some([False, True]),
    stack_seeds=st.just(False),
    arguments=st.just({"max_timesteps": 10}),
    algorithm_arguments=st.just({}),
    variants=st.sampled_from([{"": {}}, {"small": {"batch_size": 2}, "large": {"batch_size": 4}}]),
)


@settings(max_examples=60)
@given(grids)
def test_every_cell_once_and_a_model_for_each_data_set(grid: OfflineGrid) -> None:
    plan = build_plan(study_with(grid))
    names = [job.name for job in plan]
    assert len(set(names)) == len(names)
    cells = set()
    for job in plan:
        if job.kind == "offline":
            values = dict(zip(job.words, job.words[1:], strict=False))
            batch = values.get("--batch_size", "-")
            source = values["--env"].rsplit("/", 1)[-1].removesuffix(".npz")
            synther = "--diffusion.path" in job.words
            cells.add((source, Path(job.script).stem, synther, values["--seed"], batch))
    sources = {
        data if fraction == 1 else f"{data}-{100 * fraction:g}pct"
        for data, fraction in itertools.product(grid.data_sets, grid.fractions)
    }
    batches = [str(each.get("batch_size", "-")) for each in grid.variants.values()]
    seeds = [str(seed) for seed in grid.seeds]
    expected = itertools.product(sources, grid.algorithms, grid.synther, seeds, batches)
    assert cells == set(expected)
    assert sum(job.kind == "offline" for job in plan) == len(cells)
    models = [job.name for job in plan if job.kind == "diffusion"]
    assert sorted(models) == sorted(f"diffusion/{each}" for each in sources if True in grid.synther)
    # What a job needs comes before it, and is what its words name.
    for index, job in enumerate(plan):
        named = {name for name in names if any(f"/{name}/run/" in word for word in job.words)}
        assert set(job.needs) == named - {job.name}
        assert set(job.needs) <= set(names[:index])


def test_the_same_study_gives_the_same_plan(tmp_path: Path) -> None:
    study = study_of(tmp_path, SMALL)
    assert build_plan(study) == build_plan(study)


def test_two_grids_share_models_and_may_not_share_runs(tmp_path: Path) -> None:
    (first,) = study_of(tmp_path, SMALL).offline
    content = SMALL | {"offline": [{**SMALL["offline"][0], "algorithms": ["iql"]}]}
    (second,) = study_of(tmp_path, content).offline
    plan = build_plan(study_with(first, second))
    assert sum(job.kind == "diffusion" for job in plan) == 1
    assert sum(job.kind == "offline" for job in plan) == 8
    with pytest.raises(StudyError, match="td3_bc-hopper-demo-v0-real-s0 is in the study twice"):
        build_plan(study_with(first, first))


def test_stacked_seeds_are_one_job(tmp_path: Path) -> None:
    grid = {**SMALL["offline"][0], "seeds": [3, 4, 5], "stack_seeds": True, "synther": [False]}
    (job,) = build_plan(study_of(tmp_path, SMALL | {"offline": [grid]}))
    words = " ".join(job.words)
    assert job.seeds == (3, 4, 5)
    assert "--seed 3 --num_seeds 3" in words
    assert job.name.endswith("-s3to5")


def test_arguments_go_over_each_other(tmp_path: Path) -> None:
    grid = {
        **SMALL["offline"][0],
        "seeds": [0],
        "synther": [False],
        "arguments": {"batch_size": 1, "discount": 0.5, "alpha": 1},
        "algorithm_arguments": {"td3_bc": {"batch_size": 2, "discount": 0.6}},
        "variants": {"wide": {"batch_size": 3}},
    }
    (job,) = build_plan(study_of(tmp_path, SMALL | {"offline": [grid]}))
    words = " ".join(job.words)
    for pair in ("--batch_size 3", "--discount 0.6", "--alpha 1", "--name td3_bc-wide"):
        assert pair in words


def test_arguments_of_the_study_itself_are_refused(tmp_path: Path) -> None:
    for key in ("seed", "num-seeds", "out"):  # a command takes these spellings too
        grid = {**SMALL["offline"][0], "arguments": {key: 3}}
        with pytest.raises(StudyError, match=f"{key} is given by the study itself"):
            build_plan(study_of(tmp_path, SMALL | {"offline": [grid]}))


def test_d4rl_runs_have_the_settings_of_their_file() -> None:
    assert (
        yaml_of("iql", "antmaze-large-play-v2")
        == "synther/corl/yaml/iql/antmaze/large_play_v2.yaml"
    )
    assert yaml_of("td3_bc", "halfcheetah-medium-replay-v2") is not None
    assert yaml_of("edac", "hopper-random-v2") is None
    assert yaml_of("iql", "hopper-demo-v0") is None


def test_an_algorithm_has_its_settings_however_it_is_spelled(tmp_path: Path) -> None:
    grid = {"data_sets": ["hopper-medium-v2"], "seeds": [0], "synther": [False]}
    by_name, by_path = (
        build_plan(study_of(tmp_path, SMALL | {"offline": [{**grid, "algorithms": [given]}]}))
        for given in ("edac", "synther/corl/algorithms/edac.py")
    )
    assert by_path == by_name
    assert "--config synther/corl/yaml/edac/hopper/medium_v2.yaml" in " ".join(by_path[0].words)
    (tmp_path / "edac.py").write_text(OWN)  # another of that name has none
    grid["algorithms"] = [str(tmp_path / "edac.py")]
    (own,) = build_plan(study_of(tmp_path, SMALL | {"offline": [grid]}))
    assert "--config" not in own.words


def test_paths_in_arguments_are_those_of_the_folder_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("out/run-s0").mkdir(parents=True)
    for name in ("values.npy", "offline"):
        Path(name).touch()
    grid = {
        **SMALL["offline"][0],
        "seeds": [0],
        "synther": [True],
        "arguments": {"load_model": "out/run-s0", "group": "offline", "env_kwargs": "{}"},
        "variants": {"a": {}, "b": {"load_model": "~/out/run-s0"}},
    }
    diffusion = {
        "arguments": {"condition": "values.npy"},
        "gin_params": ["condition.name = 'values.npy'", "Trainer.x = 'other'"],
    }
    model, *runs = build_plan(
        study_of(tmp_path, SMALL | {"offline": [grid], "diffusion": diffusion})
    )
    for run in runs:
        words = " ".join(run.words)
        assert f"--env_kwargs {{}} --group offline --load_model {tmp_path}/out/run-s0" in words
    assert f"--condition {tmp_path}/values.npy" in " ".join(model.words)
    assert f"condition.name = '{tmp_path}/values.npy'" in model.words
    assert "Trainer.x = 'other'" in model.words


def test_a_path_that_the_jobs_find_too_stays_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was begun with these words goes on with no others."""
    assert CHECKOUT is not None
    monkeypatch.chdir(CHECKOUT)
    grid = {**SMALL["offline"][0], "seeds": [0], "synther": [False]}
    grid["arguments"] = {"load_model": "synther/corl"}
    (job,) = build_plan(study_of(tmp_path, SMALL | {"offline": [grid]}))
    assert job.words[-2:] == ("--load_model", "synther/corl")


NOBODY = "~nobody-is-called-so/x"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"diffusion": {"gin_files": [f"{NOBODY}.gin"]}}, "diffusion.gin_files"),
        ({"diffusion": {"arguments": {"condition": f"{NOBODY}.npy"}}}, "arguments.condition"),
        ({"offline": [{"data_sets": [f"{NOBODY}.npz"]}]}, r"offline\[0\].data_sets"),
        ({"offline": [{"algorithms": [f"{NOBODY}.py"]}]}, r"offline\[0\].algorithms"),
        ({"offline": [{"arguments": {"load_model": NOBODY}}]}, "arguments.load_model"),
        (
            {"online": [{"envs": ["e"], "agents": {"A": {"gin_files": [NOBODY]}}, "seeds": [0]}]},
            r"online\[0\].agents.A.gin_files",
        ),
    ],
)
def test_a_home_that_nobody_has(content: dict[str, Any], place: str, tmp_path: Path) -> None:
    if "offline" in content:
        content = {"offline": [{**SMALL["offline"][0], **content["offline"][0]}]}
    with pytest.raises(StudyError, match=rf"study\.yaml: .*{place}: .*no home directory for ~"):
        build_plan(study_of(tmp_path, SMALL | content))


def test_settings_of_samples_are_for_runs_that_have_samples(tmp_path: Path) -> None:
    grid = {**SMALL["offline"][0], "seeds": [0], "arguments": {"diffusion.mix": 0.5, "alpha": 1}}
    plan = build_plan(study_of(tmp_path, SMALL | {"offline": [grid]}))
    words = {job.name: job.words for job in plan}
    assert "--diffusion.mix" not in words["offline/td3_bc-hopper-demo-v0-real-s0"]
    assert "--alpha" in words["offline/td3_bc-hopper-demo-v0-real-s0"]
    assert "--diffusion.mix" in words["offline/td3_bc-hopper-demo-v0-synther-s0"]


def test_labels_of_data_sets() -> None:
    assert label_of("hopper-medium-v2") == "hopper-medium-v2"
    assert label_of("/some/where/mine.npz") == "mine"
    assert label_of("mujoco/hopper/medium-v0") == "mujoco-hopper-medium-v0"


def test_shares_of_a_gpu_from_the_command_line(tmp_path: Path) -> None:
    study = with_gpus(study_of(tmp_path, SMALL), 0.5, None)
    gpus = {job.kind: job.resources.gpus for job in build_plan(study)}
    assert gpus == {"offline": 0.5, "diffusion": 0}


def test_the_plan_is_written_down(tmp_path: Path) -> None:
    study = study_of(tmp_path, SMALL)
    plan = build_plan(study)
    write_plan(study, plan, tmp_path)
    written = json.loads((tmp_path / "plan.json").read_text())
    assert [job["name"] for job in written["jobs"]] == [job.name for job in plan]
    assert str(tmp_path) in " ".join(written["jobs"][0]["command"])

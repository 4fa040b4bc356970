"""A study's file is refused with the file, the key, and what was expected."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from synther.installed import CHECKOUT as ROOT
from synther.sweeps.plan import build_plan
from synther.sweeps.sections import StudyError
from synther.sweeps.study import load_study
from tests.sweep.helpers import SMALL, study_of

STUDIES = sorted((ROOT / "config/sweeps").glob("*.yaml"))


def grid(**changes: Any) -> dict[str, Any]:
    content = copy.deepcopy(SMALL)
    content["offline"][0] |= changes
    return content


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    study = study_of(tmp_path, SMALL)
    assert study.offline[0].synther == (False, True)
    assert study.offline[0].fractions == (1.0,)
    assert study.diffusion.gin_files == ("config/resmlp_denoiser.gin",)
    assert study.resources["offline"].cpus == 1
    assert study.resources["offline"].gpus == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SMALL | {"oflline": []}, "oflline: no such key; did you mean offline"),
        ({"offline": SMALL["offline"]}, "name: missing, expected text"),
        (SMALL | {"name": "a/b"}, "name: 'a/b': expected letters"),
        ({"name": "empty"}, "no runs; expected a grid"),
        (grid(seed=[0]), r"offline\[0\].seed: no such key; did you mean seeds"),
        (grid(seeds=[]), r"offline\[0\].seeds: expected a list of one or more, got \[\]"),
        (grid(seeds=[0, 1, 0]), r"offline\[0\].seeds: 0 is there twice"),
        (grid(seeds=[0, -1]), r"offline\[0\].seeds: expected 0 or more, got -1"),
        (grid(seeds=[2**63]), r"offline\[0\].seeds: expected at most 9223372036854775807"),
        (SMALL | {"diffusion": {"seed": 2**63}}, "diffusion.seed: expected at most"),
        (
            SMALL | {"resources": {"offline": {"cpus": float("inf")}}},
            "expected cpus of more than 0",
        ),
        (grid(seeds=[0, True]), r"offline\[0\].seeds: expected a whole number, got True"),
        (grid(seeds=3), r"offline\[0\].seeds: expected a list"),
        (grid(algorithms=["td3bc"]), "unknown 'td3bc'; did you mean td3_bc"),
        (grid(algorithm_arguments={"iql": {"beta": 1}}), "unknown 'iql'; expected one of td3_bc"),
        (grid(data_sets=[]), r"offline\[0\].data_sets: expected a list of one or more"),
        (grid(fractions=[0.0]), r"fractions: 0.0: expected more than 0, at most 1"),
        (grid(fractions=["half"]), "fractions: expected a number, got 'half'"),
        (grid(synther=["yes"]), "synther: expected true or false, got 'yes'"),
        (grid(stack_seeds=True, seeds=[0, 2]), "expected seeds that follow each other"),
        (grid(arguments=[1]), r"offline\[0\].arguments: expected keys and values"),
        (grid(arguments={"a": [1]}), "arguments.a: expected a number, a text or a bool"),
        (SMALL | {"resources": {"offline": {"gpus": 1.5}}}, "above 1, a whole number"),
        (SMALL | {"resources": {"ofline": {}}}, "did you mean offline"),
        (SMALL | {"diffusion": {"samples": 0}}, "diffusion.samples: expected 1 or more"),
        ({"name": "x", "online": [{"envs": ["a"], "seeds": [0]}]}, "agents: missing"),
        ({"name": "x", "online": {"envs": []}}, "online: expected a list"),
    ],
)
def test_bad_studies(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        study_of(tmp_path, content)
    assert str(tmp_path / "study.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "key 'name' is there twice"),
        ("name: [", "not YAML"),
        ("- 1\n", "expected keys and values"),
        ("", "expected keys and values"),
    ],
)
def test_files_that_are_no_studies(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(StudyError, match=message):
        load_study(file)
    with pytest.raises(StudyError, match=r"nothing\.yaml: no such file"):
        load_study(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_studies_that_are_included(file: Path) -> None:
    study = load_study(file)
    assert study.name == file.stem
    plan = build_plan(study)
    runs = [job for job in plan if job.kind in ("offline", "online")]
    assert len(runs) >= 10
    seeds = {seed for job in runs for seed in job.seeds}
    assert len(seeds) >= (2 if study.name == "tiny" else 4)

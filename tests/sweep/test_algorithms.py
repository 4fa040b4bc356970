"""An algorithm is found by its file, and a file that is none is refused with what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from synther.corl.algorithms.td3_bc import TD3BCConfig
from synther.installed import CHECKOUT as ROOT
from synther.sweeps.algorithms import find_algorithm, shipped
from synther.sweeps.plan import build_plan
from synther.sweeps.sections import StudyError
from tests.sweep.helpers import SMALL, study_of

CONFIG = """
from dataclasses import dataclass
from synther.corl.shared.config import RunConfig
@dataclass
class MineConfig(RunConfig):
    name: str = "Mine"
"""


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


def test_every_shipped_one_is_found() -> None:
    assert {"td3_bc", "iql", "edac", "cql"} <= set(shipped())
    for given in shipped():
        found = find_algorithm(given)
        assert found.script == f"synther/corl/algorithms/{given}.py"
    found = find_algorithm("td3_bc")
    assert (found.name, found.label, found.config_class) == ("td3_bc", "TD3+BC", TD3BCConfig)


def test_a_shipped_one_by_its_path_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "synther")
    for path in ("synther/corl/algorithms/iql.py", "corl/algorithms/iql.py"):
        assert find_algorithm(path) is find_algorithm("iql")


def test_a_file_elsewhere_is_found_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, CONFIG)
    monkeypatch.chdir(tmp_path)
    found = find_algorithm("mine.py")
    assert (found.name, found.label, found.script) == ("mine", "Mine", file)
    grid = {**SMALL["offline"][0], "algorithms": [file], "seeds": [0], "synther": [False]}
    (job,) = build_plan(study_of(tmp_path, SMALL | {"offline": [grid]}))
    assert (job.name, job.algorithm) == ("offline/mine-hopper-demo-v0-real-s0", "Mine")


def test_of_a_class_and_its_base_the_class_counts(tmp_path: Path) -> None:
    more = "@dataclass\nclass OtherConfig(MineConfig):\n    name: str = 'Other'\n"
    assert find_algorithm(written(tmp_path, CONFIG + more)).label == "Other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_at_all\n", r"cannot be imported \(ModuleNotFoundError"),
        ("def broken(:\n", r"cannot be imported \(SyntaxError"),
        ("x = 1\n", "expected one class of settings, derived from RunConfig, found none"),
        (
            CONFIG + "@dataclass\nclass SecondConfig(RunConfig):\n    name: str = 'B'\n",
            "found MineConfig, SecondConfig",
        ),
        (CONFIG.replace('"Mine"', '"run"'), "MineConfig calls its runs 'run'"),
        (
            "from synther.corl.algorithms.td3_bc import TD3BCConfig\n",
            "expected one class of settings, derived from RunConfig, found none",
        ),
    ],
)
def test_a_file_that_is_no_algorithm_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    grid = {**SMALL["offline"][0], "algorithms": [file]}
    with pytest.raises(StudyError, match=message) as caught:
        study_of(tmp_path, SMALL | {"offline": [grid]})
    assert str(caught.value).startswith(f"{tmp_path}/study.yaml: offline[0].algorithms: {file}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nowhere/mine\.py: no such file"):
        find_algorithm("nowhere/mine.py")


def test_two_algorithms_of_one_name_are_refused(tmp_path: Path) -> None:
    files = [written(tmp_path / each, CONFIG) for each in "ab"]
    grid = {**SMALL["offline"][0], "algorithms": files}
    with pytest.raises(StudyError, match="both call their runs mine; rename one"):
        study_of(tmp_path, SMALL | {"offline": [grid]})

"""Answers out of a planted table, and the score that leaves each data set out."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest

from synther.advise import study
from synther.advise.features import Features
from synther.advise.table import Cell, NoAdviceError, read_table
from synther.runs import gin_config

REPOSITORY = Path(__file__).parents[2]
HERE = Features(10_000, 40, 20, 0.5, 0.0, 0.0, 1.5, 0.75)


def cell(data: str, verdict: Any, factor: float = 1.0, **others: Any) -> Cell:
    gain = {"help": 5.0, "neither": 0.0, "harm": -5.0}[verdict]
    features = replace(HERE, rows=round(10_000 * factor))
    known: dict[str, Any] = {"data": data, "share": 15, "algorithm": "td3_bc", "kind": "new",
             "gain": gain, "low": gain - 1, "high": gain + 1, "verdict": verdict,
             "seeds": 4, "features": features}  # fmt: skip
    return Cell(**(known | others))


def test_distance_is_the_root_mean_square_over_what_both_know() -> None:
    tripled = replace(HERE, rows=30_000)
    assert study.distance(HERE, tripled) == pytest.approx(np.sqrt(1 / 8))
    unknown = replace(tripled, episodes=None, return_spread=None)
    assert study.distance(HERE, unknown) == pytest.approx(np.sqrt(1 / 6))
    assert study.distance(HERE, HERE) == 0


def test_an_answer_is_what_most_of_the_voices_of_the_three_nearest_say() -> None:
    cells = [cell("a", "help", 2), cell("b", "help", 2), cell("c", "harm", 2), cell("d", "harm", 9)]
    (answer,) = study.answers(cells, HERE)
    assert answer.word == "help"
    assert [each.data for _, each in answer.cells] == ["a", "b", "c"]
    assert answer.gain == pytest.approx(5 / 3)
    (tied,) = study.answers([cell("a", "help"), cell("b", "harm")], HERE)
    assert tied.word == "neither"
    (near,) = study.answers([cell("a", "help"), cell("b", "harm", 4), cell("c", "harm", 4)], HERE)
    assert near.word == "help"


def test_the_study_does_not_contradict_itself() -> None:
    """Asked about the very rows of a cell, it says what it saw on them."""
    cells = read_table()
    for each in cells:
        found = study.answers(cells, each.features)
        (word,) = (answer.word for answer in found
                   if (answer.algorithm, answer.kind) == (each.algorithm, each.kind))  # fmt: skip
        assert word == each.verdict, each


def test_algorithms_and_kinds_of_rows_are_answered_apart() -> None:
    cells = [cell("a", "help"), cell("a", "harm", kind="mixed"),
             cell("a", "neither", algorithm="iql")]  # fmt: skip
    found = {(each.algorithm, each.kind): each.word for each in study.answers(cells, HERE)}
    assert found == {("td3_bc", "new"): "help", ("td3_bc", "mixed"): "harm",
                     ("iql", "new"): "neither"}  # fmt: skip


def test_cells_that_are_far_say_nothing() -> None:
    far = cell("a", "help", features=replace(HERE, columns=160, episodes=2000, rows=90_000))
    assert study.distance(HERE, far.features) > study.NEAR
    assert study.answers([far], HERE) == []
    with pytest.raises(NoAdviceError, match=r"nearest cell, 15 % of a, is 1\.2 away"):
        study.require_near([far], HERE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": 1_000_000}, "rows 1000000, the nearest in the study 60000;"),
        ({"columns": 400}, "columns 400, the nearest in the study 40;"),
        (
            {"rows": 1_000_000, "pilot_error": 0.2},
            "rows 1000000, the nearest in the study 60000; pilot error 0.2, the nearest in the "
            "study 1.5;",
        ),
    ],
)
def test_one_huge_difference_is_not_lost_among_small_ones(
    changes: dict[str, Any], said: str
) -> None:
    cells = [cell("a", "help"), cell("b", "help", 6.0)]
    data = replace(HERE, **changes)
    assert study.answers(cells, replace(HERE, rows=60_000))
    assert study.answers(cells, data) == []
    with pytest.raises(NoAdviceError) as refused:
        study.require_near(cells, data)
    assert f"nothing like these data: {said}" in str(refused.value)


def test_cells_that_are_near_in_one_feature_each_are_not_near() -> None:
    """The rows of one cell and the columns of the other are those of the data."""
    cells = [cell("a", "help", 100), cell("b", "harm", features=replace(HERE, columns=240))]
    data = replace(HERE, rows=1_000_000, columns=240)
    with pytest.raises(NoAdviceError) as refused:
        study.require_near(cells, data)
    assert "15 % of a, differs too much in columns: 240 in these data, 40 there" in str(
        refused.value
    )


def test_features_that_nobody_else_knows_keep_no_cell_away() -> None:
    unknown = replace(HERE, episodes=None, pilot_error=None)
    assert study.answers([cell("a", "help", features=unknown)], replace(HERE, pilot_error=90.0))


@pytest.mark.parametrize(
    ("size", "file"),
    [("demo", "resmlp_demo_denoiser"), ("paper", "resmlp_transitions_denoiser")],
)
def test_the_studys_models_are_as_large_as_their_gin_files_say(size: str, file: str) -> None:
    gin_config.parse([REPOSITORY / f"config/{file}.gin"])
    names = "ResidualMLPDenoiser.mlp_width", "Trainer.train_num_steps"
    assert study.MODELS[size] == tuple(map(gin.query_parameter, names))


def test_the_score_leaves_a_data_set_out() -> None:
    # Of three data sets each cell is asked of the two others: a and b agree, c is alone.
    cells = [cell("a", "help"), cell("b", "help"), cell("c", "harm")]
    score = study.leave_one_out(cells)
    # a hears help (b) and harm (c), a tie, so neither; b the same; c hears help twice.
    assert (score.cells, score.answered, score.right) == (3, 3, 0)
    # Two shares of one data set do not answer for each other.
    pair = [cell("a", "help"), cell("a", "help", 1.1)]
    assert study.leave_one_out(pair).answered == 0
    assert "nothing is known" in str(study.leave_one_out(pair))
    agreeing = [cell(name, "harm") for name in "abcd"]
    assert study.leave_one_out(agreeing) == study.Score(4, 4, 4, 4)


def test_a_table_is_read_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    planted = [cell("a", "help"), cell("b", "harm")]
    path.write_text(json.dumps({"cells": [{**asdict(each), "real": 3.0} for each in planted]}))
    assert read_table(path) == planted
    for text, message in (
        ("{", "not a table of the study"),
        ('{"cells": [{"data": "a"}]}', "not a table of the study"),
        ('{"cells": []}', "no results in this version"),
    ):
        path.write_text(text)
        with pytest.raises(NoAdviceError, match=message):
            read_table(path)
    path.unlink()
    with pytest.raises(NoAdviceError, match="No such file or directory"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("verdict", "perhaps", "verdict is 'perhaps', expected one of help, neither, harm"),
        ("verdict", ["help"], "expected one of help, neither, harm"),
        ("kind", "real", "kind is 'real', expected one of new, 2023, mixed"),
        ("data", None, "data is None, expected text"),
        ("algorithm", 3, "algorithm is 3, expected text"),
        ("share", 1.5, "share is 1.5, expected int, from 1 to 100"),
        ("gain", "x", "gain is 'x', expected float, a finite number"),
        ("low", float("nan"), "low is nan, expected a finite number"),
        ("high", True, "high is True, expected float, a finite number"),
        ("features", None, "features is None, expected an object"),
        pytest.param("gain", 10**400, "expected a finite number", id="huge gain"),
        pytest.param("low", -(10**400), "expected a finite number", id="huge low"),
        pytest.param("features.pilot_error", 10**400, "expected 0 or more", id="huge feature"),
        ("gain", 6.5, "gain 6.5 is not from low 4.0 to high 6.0"),
        ("gain", 3.5, "gain 3.5 is not from low 4.0 to high 6.0"),
        ("high", 3.0, "gain 5.0 is not from low 4.0 to high 3.0"),
        ("low", -0.01, "verdict is 'help', which an interval from -0.01 to 6.0 does not say"),
        ("verdict", "harm", "verdict is 'harm', which an interval from 4.0 to 6.0 does not say"),
        ("verdict", "neither", "verdict is 'neither', which an interval from 4.0 to 6.0 does not"),
        ("data", "a", "cells[1] has the data, share, algorithm and kind of cells[0]"),
        ("gains", 3.0, "gains is 3.0, expected a list of numbers"),
        ("gains", "12", "gains is '12', expected a list of numbers"),
        ("gains", [1.0, None], "gains[1] is None, expected float, a finite number"),
        ("gains", [float("nan")], "gains[0] is nan, expected a finite number"),
        ("features.rows", "abc", "features: rows is 'abc', expected int, 1 or more"),
        ("features.rows", None, "features: rows is None, expected int, 1 or more"),
        ("features.rows", 0, "features: rows is 0, expected 1 or more"),
        ("features.episodes", -1, "features: episodes is -1, expected 0 or more"),
        ("features.sparsity", 1.5, "features: sparsity is 1.5, expected from 0 to 1"),
        ("features.pilot_error", float("inf"), "pilot_error is inf, expected 0 or more"),
    ],
)
def test_a_cell_that_cannot_be_is_named_when_the_table_is_read(
    name: str, value: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.json"
    cells = [asdict(cell(each, "help")) for each in "ab"]
    inside = cells[1]["features"] if "." in name else cells[1]
    inside[name.split(".")[-1]] = value
    path.write_text(json.dumps({"cells": cells}))
    with pytest.raises(NoAdviceError) as refused:
        read_table(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert "cells[1]" in str(refused.value)


def test_an_end_that_was_rounded_to_0_contradicts_no_word(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    cells = [cell("a", "help", low=0.0), cell("b", "harm", high=0.0),
             cell("c", "neither", low=0.0), cell("d", "neither", high=0.0)]  # fmt: skip
    path.write_text(json.dumps({"cells": [asdict(each) for each in cells]}))
    assert read_table(path) == cells


def test_a_table_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text('{"cells": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(NoAdviceError, match=r"table\.json: not a table of the study"):
        read_table(path)


@pytest.mark.parametrize("content", [[], {"cells": 5}, {"cells": {"a": 1}}, {"cells": ["a"]}])
def test_what_is_no_table_is_refused(content: Any, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(json.dumps(content))
    with pytest.raises(NoAdviceError, match="not a table of the study"):
        read_table(tmp_path / "table.json")


def test_features_that_are_not_known_may_be_missing(tmp_path: Path) -> None:
    plain = asdict(cell("a", "help"))
    for name in ("episodes", "return_spread", "pilot_error", "pilot_difference"):
        del plain["features"][name]
    (tmp_path / "table.json").write_text(json.dumps({"cells": [plain]}))
    (found,) = read_table(tmp_path / "table.json")
    assert found.features.pilot_error is None


def test_cells_of_a_table_without_gains_have_one_model_each(tmp_path: Path) -> None:
    plain = asdict(cell("a", "help", gains=(4.0, 6.0)))
    path = tmp_path / "table.json"
    for expected in (2, 1):
        path.write_text(json.dumps({"cells": [plain]}))
        assert [each.replicates for each in read_table(path)] == [expected]
        plain.pop("gains", None)


def test_the_table_that_ships_is_a_table_of_the_study() -> None:
    text = Path(study.__file__).with_name("table.json").read_text(encoding="utf-8")
    stated = json.loads(text)["cells"]
    if stated:
        cells = read_table()
        assert len(cells) == len(stated)
        for each in cells:
            word = "help" if each.low > 0 else "harm" if each.high < 0 else "neither"
            assert each.verdict == word
    else:
        with pytest.raises(NoAdviceError, match="no results in this version"):
            read_table()

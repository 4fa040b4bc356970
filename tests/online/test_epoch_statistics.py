"""The statistics of an epoch against numpy, and the table as others read it."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synther.online.epoch_statistics import MetricTotals, statistics_of
from synther.online.run_logs import ProgressTable

pytestmark = pytest.mark.arithmetic

NUMBERS = st.floats(-1e6, 1e6, width=32)


@given(st.lists(NUMBERS, min_size=1))
def test_statistics_are_numpy_s(values: list[float]) -> None:
    assert statistics_of("X", values) == pytest.approx(
        {
            "AverageX": np.mean(values), "StdX": np.std(values),
            "MaxX": max(values), "MinX": min(values),
        }
    )  # fmt: skip


def test_statistics_of_nothing_are_nan() -> None:
    assert list(statistics_of("EpRet", [])) == ["AverageEpRet", "StdEpRet", "MaxEpRet", "MinEpRet"]
    assert all(math.isnan(each) for each in statistics_of("EpRet", []).values())


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30), st.integers(0, 30))
def test_totals_are_numpy_s_also_when_saved_on_the_way(
    values: list[tuple[float, float]], saved_at: int
) -> None:
    totals = MetricTotals()
    for i, (q, loss) in enumerate(values):
        if i == saved_at:
            state = totals.state_dict()
            totals = MetricTotals()
            totals.load_state_dict(state)
        totals.add({"Q1Vals": torch.tensor([q]), "LossPi": torch.tensor([loss])})
        totals.add({})
    qs, losses = np.array(values, np.float64).T
    columns = totals.take()
    spread = columns.pop("StdQ1Vals")
    assert columns == pytest.approx(
        {
            "AverageQ1Vals": qs.mean(), "MaxQ1Vals": qs.max(), "MinQ1Vals": qs.min(),
            "LossPi": losses.mean(),
        },
        rel=1e-9, abs=1e-9,
    )  # fmt: skip
    assert spread == pytest.approx(qs.std(), abs=1e-6 * max(1.0, np.abs(qs).max()))
    assert totals.take() == {}


def test_totals_start_anew_when_taken() -> None:
    totals = MetricTotals()
    for value in (1.0, 5.0):
        totals.add({"LogPi": torch.tensor([value])})
        columns = totals.take()
        assert columns["AverageLogPi"] == columns["MaxLogPi"] == columns["MinLogPi"] == value
        assert columns["StdLogPi"] == 0


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", strict=True))


def test_the_table_as_a_tab_split_reader_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "progress.txt"
    table = ProgressTable(path, ["Epoch", "AverageEpRet", "LossPi"])
    assert read(path) == []
    table.add({"Epoch": 1, "AverageEpRet": -1.25e-7, "not a column": 3})
    table.add({"Epoch": 2, "AverageEpRet": 0.1 + 0.2, "LossPi": math.inf})
    first, second = read(path)
    assert float(first["AverageEpRet"]) == -1.25e-7
    assert math.isnan(float(first["LossPi"]))
    assert {key: float(value) for key, value in second.items()} == {
        "Epoch": 2, "AverageEpRet": 0.1 + 0.2, "LossPi": math.inf,
    }  # fmt: skip


def test_a_table_goes_on_from_earlier_epochs(tmp_path: Path) -> None:
    path = tmp_path / "progress.txt"
    path.write_text("a table of another ti")
    table = ProgressTable(path, ["Epoch", "Time"], [{"Epoch": 1, "Time": 2.5, "step": 100}])
    table.add({"Epoch": 2, "Time": 3.5})
    assert path.read_text() == "Epoch\tTime\n1\t2.5\n2\t3.5\n"

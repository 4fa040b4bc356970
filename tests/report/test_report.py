"""The command: files of a report, and what it says of runs that it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from synther import report
from synther.reports.curves import band, draw_curves
from synther.reports.tables import groups_of
from tests.report.helpers import offline_run, run_of, runs_of


def test_a_report_of_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offline_run(tmp_path / "a/x", [[1.0, 3.0], [2.0, 6.0]], seeds=(0, 1))
    samples = {"diffusion.path": "s.npz"}
    offline_run(tmp_path / "b/y", [[4.0, 8.0], [5.0, 7.0]], seeds=(0, 1), **samples)
    offline_run(tmp_path / "b/z", [[1.0]], seeds=(2,), finished=False)
    report.main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "out")])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.md", "report.tex", "curves.png", "curves.pdf", "summary.json"}
    text = (tmp_path / "out/report.md").read_text()
    assert "4 finished runs, 1 not finished" in text
    assert "| hopper-medium-v2 | 4.0 ± 2.0* | 60.4 ± 3.5 | 6.0 ± 1.0 |" in text
    assert "CORL" in text
    assert "not finished: z" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    (cell, _) = summary["groups"][0]["cells"]
    assert (cell["last"], cell["last_mean"], cell["last_standard_error"]) == ([2, 6], 4, 2)
    assert summary["groups"][0]["probability_of_improvement"][0]["value"] == 0.75
    assert summary["unfinished"][0]["name"] == "z"
    assert imread(tmp_path / "out/curves.png").std() > 0


def test_only_unfinished_runs_make_a_report_without_a_picture(tmp_path: Path) -> None:
    offline_run(tmp_path / "x", [[1.0]], finished=False)
    report.main([str(tmp_path)])
    assert not list((tmp_path / "report").glob("curves.*"))
    assert "0 finished runs, 1 not finished" in (tmp_path / "report/report.md").read_text()


def test_a_home_directory_stands_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    offline_run(tmp_path / "runs/x", [[1.0]], finished=False)
    report.main(["~/runs", "--output=~/out"])
    assert (tmp_path / "out/report.md").is_file()


@pytest.mark.parametrize(("folder", "message"), [("", "no runs in"), ("none", "no such folder")])
def test_nothing_to_report(
    folder: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        report.main([str(tmp_path / folder)])
    assert end.value.code == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_band_is_of_the_steps_that_all_runs_have() -> None:
    steps, mean, error = band([run_of([1, 2, 3], seed=0), run_of([5, 6], seed=1)])
    assert steps.tolist() == [10, 20]
    assert mean.tolist() == [3, 4]
    np.testing.assert_allclose(error, [2, 2])
    assert band([run_of([1, 2])])[2].tolist() == [0, 0]


def test_the_curves_have_a_panel_for_every_task(tmp_path: Path) -> None:
    one = draw_curves(groups_of(runs_of(run_of([1, 2]))), tmp_path / "one.png")
    runs = runs_of(*(run_of([1, 2], task=f"t{number}") for number in range(5)))
    five = draw_curves(groups_of(runs), tmp_path / "five.png")
    assert imread(five).shape[1] > 2 * imread(one).shape[1]  # three in the first line
    assert imread(five).shape[0] > 1.5 * imread(one).shape[0]

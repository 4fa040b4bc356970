"""The study of row quality: its plan, its statistics, and what it says of planted results."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import row_quality

    monkeypatch.setattr(row_quality, "RESULTS", tmp_path / "results")
    yield row_quality
    for name in ("row_quality", "row_quality_results", "offline_learning"):
        sys.modules.pop(name, None)


@pytest.fixture
def results(study: Any) -> Any:
    import row_quality_results

    return row_quality_results


def planted(arm: str, scores: list[float], algorithm: str = "td3_bc", **numbers: float) -> Any:
    measures = {"synthetic": {"verdict": {"numbers": numbers}}} if numbers else None
    return {"arm": arm, "algorithm": algorithm, "scores": scores, "measures": measures}


def test_every_run_is_there_once_and_what_says_most_comes_first(study: Any) -> None:
    runs = study.study()
    names = [run.name for run in runs]
    assert len(set(names)) == len(names) == 2 * 2 * (1 + 4 * 2 * 3 + 3)
    first = {run.rows.arm for run in runs[:5]}
    assert {each.removeprefix("halfcheetah-replay-") for each in first} == {
        "real", "2023-off-demo", "new-off-demo", "2023-ensemble-demo", "new-ensemble-demo",
    }  # fmt: skip


def test_one_model_serves_both_last_stages(study: Any) -> None:
    off, repaired = (
        study.Rows("hopper-demo-v0", "new"),
        study.Rows("hopper-demo-v0", "new", "ensemble"),
    )
    assert off.model == repaired.model
    assert off.arm != repaired.arm
    words = study.sample_command(repaired, "hopper-demo-v0", Path("f"))
    assert "--load_checkpoint" in words
    assert words[-2:] == ["--consistency", "ensemble"]


def test_what_is_finished_is_not_done_again(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(study, "start", lambda log, *words: started.append(str(words[0])))
    monkeypatch.setattr(study, "trained", lambda *_: started.append("agent"))
    run = study.Run("iql", study.Rows("hopper-demo-v0"))
    (study.RESULTS / f"{run.name}.json").parent.mkdir(parents=True)
    (study.RESULTS / f"{run.name}.json").write_text("{}")
    study.do(Path("nowhere"), run, Lock())
    assert started == []


def test_the_commands_that_are_printed_are_those_that_are_done(
    study: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a folder"
    run = study.Run("iql", study.Rows("halfcheetah-replay", "new", "ensemble", "demo", 1))
    done: list[list[str]] = []

    def finished(log: Path, *words: object) -> None:
        done.append([str(word) for word in words])
        home = folder / run.rows.model
        home.mkdir(parents=True, exist_ok=True)
        (home / "fidelity.json").write_text("{}")
        (home / "model-8000.pt").touch()

    monkeypatch.setattr(study, "start", finished)
    monkeypatch.setattr(study, "trained", lambda runs, log, command: finished(log, *command))
    monkeypatch.setattr(study, "last_scores", lambda _: np.zeros(4))
    collected = folder / "collected/halfcheetah-medium-replay.npz"
    collected.parent.mkdir(parents=True)
    monkeypatch.setattr(sys.modules["offline_learning"].Collection, "path", lambda *_: collected)
    study.do(folder, run, Lock())
    study.main(["--dry-run", "--folder", str(folder), "--only", run.name])
    printed = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    collecting, *others = printed
    copied = others.pop(2)
    assert others == [["python3", *words] for words in done]
    assert str(collected) in others[0]
    home = folder / run.rows.model
    assert copied == ["cp", str(home / "fidelity.json"), str(home / "ensemble.json")]
    where = ["halfcheetah-medium-replay", "--folder", str(collected.parent)]
    assert collecting == ["python3", "-m", "synther.datasets.collect", *where]


@pytest.fixture
def cut_off(study: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The folder of an arm, the arm, and what is started for it, which does what is asked."""
    rows = study.Rows("hopper-demo-v0", "new")
    home = tmp_path / rows.model
    home.mkdir()
    (home / "run.json").touch()
    started: list[str] = []

    def start(log: Path, *words: object) -> None:
        if "--no_save_samples" in words:
            started.append("train" + (" --resume" if "--resume" in words else ""))
            (home / "model-8000.pt").touch()
        else:
            started.append("sample")
            assert (home / "model-8000.pt").exists()
            (home / "off.npz").touch()
            (home / "fidelity.json").write_text('{"of": "off"}')

    monkeypatch.setattr(study, "start", start)
    return home, rows, started


def test_a_model_that_was_cut_off_is_trained_to_its_end(study: Any, cut_off: Any) -> None:
    """Such a run leaves the checkpoint of half of its steps."""
    home, rows, started = cut_off
    (home / "model-4000.pt").touch()
    study.sampled(home.parent, rows, "hopper-demo-v0")
    assert started == ["train --resume", "sample"]
    study.sampled(home.parent, rows, "hopper-demo-v0")
    assert len(started) == 2


def test_the_size_says_which_step_is_the_last(
    study: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    larger = study.Rows("hopper-demo-v0", "new", size="larger")
    (tmp_path / larger.model).mkdir()
    for name in ("model-8000.pt", "off.npz", "off.json"):
        (tmp_path / larger.model / name).touch()
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr(study, "start", lambda log, *words: started.append(words))
    study.sampled(tmp_path, larger, "hopper-demo-v0")
    (words,) = started
    assert "Trainer.train_num_steps=20000" in words


def test_samples_without_their_measures_are_made_again(study: Any, cut_off: Any) -> None:
    """What stopped between the two left measures of nobody knows which samples."""
    home, rows, started = cut_off
    for name in ("model-8000.pt", "off.npz"):
        (home / name).touch()
    (home / "fidelity.json").write_text('{"of": "ensemble"}')
    study.sampled(home.parent, rows, "hopper-demo-v0")
    assert started == ["sample"]
    assert json.loads((home / "off.json").read_text()) == {"of": "off"}


def test_what_is_printed_once_serves_every_run(study: Any) -> None:
    lines = study.planned(Path("f"), study.study())
    assert len(set(lines)) == len(lines)
    models = {run.rows.model for run in study.study() if run.rows.coordinates in ("2023", "new")}
    assert sum("--no_save_samples" in line for line in lines) == len(models)


def test_one_step_rows_are_made_by_the_line_that_is_printed(
    study: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = study.Run("iql", study.Rows("hopper-demo-v0", "one-step", "ensemble"))
    making, learning = map(shlex.split, study.planned(tmp_path, [run]))
    monkeypatch.setattr(study, "one_step_rows", lambda real, seed: real.subset(slice(3 + seed)))
    exec(making[-1], {})
    assert len(study.load_dataset(learning[-1])) == 3


def test_the_score_is_the_mean_of_the_last_three_evaluations(study: Any, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"seeds": [0, 1]}))
    lines = [{"step": s, "eval_score/s0": s, "eval_score/s1": 2.0 * s} for s in (1, 2, 3, 4, 5)]
    lines.insert(2, {"step": 2, "critic_loss/s0": 1.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert study.last_scores(tmp_path).tolist() == [4.0, 8.0]


def test_an_interval_is_welchs(results: Any) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(3, 1, 8), rng.normal(0, 2, 12)
    mean, low, high = results.difference(one, other)
    errors = np.array([one.var(ddof=1) / 8, other.var(ddof=1) / 12])
    freedom = errors.sum() ** 2 / (errors**2 / np.array([7, 11])).sum()
    half = stats.t.ppf(0.975, freedom) * np.sqrt(errors.sum())
    assert mean == pytest.approx(one.mean() - other.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half))


@pytest.mark.parametrize(
    ("interval", "real", "today"),
    [((1, 0.5, 2), "no worse", "better"), ((0, -1, 1), "no worse", "neither"),
     ((-2, -3, -1), "worse", "worse")],
)  # fmt: skip
def test_the_words_are_those_that_were_fixed_before(
    results: Any, interval: Any, real: str, today: str
) -> None:
    assert results.verdict(interval, than_real=True) == real
    assert results.verdict(interval, than_real=False) == today


def test_the_table_compares_with_real_and_with_todays_rows(results: Any) -> None:
    arms = [
        planted("hopper-demo-v0-real", [15.0, 16, 15.5, 14.5]),
        planted("hopper-demo-v0-2023-off-demo", [10.0, 11, 10.5, 9.5]),
        planted("hopper-demo-v0-2023-off-demo", [4.0, 5, 4.5, 3.5]),
        planted("hopper-demo-v0-new-ensemble-demo", [15.2, 15.8, 14.9, 15.1]),
        planted("hopper-demo-v0-new-ensemble-demo", [14.2, 14.8, 13.9, 14.1]),
    ]
    out = io.StringIO()
    Console(file=out, width=200).print(results.table(arms))
    lines = {
        line.split("│")[2].strip(): line for line in out.getvalue().splitlines() if "td3" in line
    }
    assert "no worse" in lines["hopper-demo-v0-new-ensemble-demo"]
    assert "better" in lines["hopper-demo-v0-new-ensemble-demo"]
    assert "worse" in lines["hopper-demo-v0-2023-off-demo"].replace("no worse", "")
    # Means of generators: 10.25 and 4.25, 15.25 and 14.25.
    assert "7.2 +- 3.0 of 2" in lines["hopper-demo-v0-2023-off-demo"]
    gap = stats.ttest_ind([15.25, 14.25], [10.25, 4.25], equal_var=False).confidence_interval()
    expected = f"+7.5 ({gap.low:.1f} to {gap.high:.1f})"
    assert expected in lines["hopper-demo-v0-new-ensemble-demo"]


def test_measures_are_ranked_as_scipy_ranks_them(results: Any) -> None:
    arms = [f"hopper-demo-v0-arm{number}" for number in range(5)]
    scores, measure = [1.0, 4, 2, 8, 5], [0.7, 0.6, 0.66, 0.5, 0.61]
    found = [
        planted(arm, [score, score], two_sample=value)
        for arm, score, value in zip(arms, scores, measure, strict=True)
    ]
    ((data, algorithm, name, rho, count),) = results.rank_correlations(found)
    assert (data, algorithm, name, count) == ("hopper-demo-v0", "td3_bc", "two_sample", 5)
    assert rho == pytest.approx(stats.spearmanr(measure, scores).statistic)


def test_one_step_rows_are_real_but_for_what_regressions_predict(study: Any) -> None:
    """Of a law without noise: predictions are near the truth and not the truth itself."""
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(2000, 3)), rng.uniform(-1, 1, (2000, 2))
    following = observations + 0.1 * actions[:, :1]
    terminals = following[:, 0] > 1.5
    real = study.Transitions(observations, actions, observations[:, 1], following, terminals)
    rows = study.one_step_rows(real, seed=0)
    assert np.array_equal(rows.observations, real.observations)
    assert np.array_equal(rows.actions, real.actions)
    away = np.abs(rows.next_observations - real.next_observations)
    assert 0 < away.mean() < 0.02
    assert (rows.terminals == real.terminals).mean() > 0.97
    assert set(np.unique(rows.terminals)) == {0, 1}

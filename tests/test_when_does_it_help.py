"""The study of when synthetic rows help: its plans, its commands, and its words on results."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from synther.corl.shared.parsing import parse
from synther.datasets import load_dataset
from synther.datasets.collect import NAMES
from synther.datasets.recording import record_episodes
from synther.sweeps.algorithms import find_algorithm

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FEATURES = {"rows": 1200, "columns": 24, "episodes": 3, "return_spread": 0.2,
            "terminal_rate": 0.01, "sparsity": 0.001, "pilot_error": 1.5,
            "pilot_difference": 0.9, "behaviour": {"score": 12.5}}  # fmt: skip


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import help_results
    import help_shown
    import when_does_it_help

    for module in (help_results, when_does_it_help):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(when_does_it_help, "FIGURE", tmp_path / "figure.png")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{help_shown.START}old\n{help_shown.END}after\n")
    monkeypatch.setattr(when_does_it_help, "README", readme)
    (tmp_path / "results").mkdir()
    yield when_does_it_help
    for name in ("when_does_it_help", "help_results", "help_shown", "row_quality",
                 "offline_learning"):  # fmt: skip
        sys.modules.pop(name, None)


def plant(study: Any, run: Any, scores: list[float]) -> None:
    result = {"data": run.data, "share": run.share, "kind": run.kind, "algorithm": run.algorithm,
              "replicate": run.replicate, "scores": scores, "curve": [scores] * 10}  # fmt: skip
    (study.RESULTS / f"{run.name}.json").write_text(json.dumps(result))
    (study.RESULTS / f"features-{run.rows}.json").write_text(json.dumps(FEATURES))


@pytest.mark.parametrize("plan", ["cheap", "full", "paper", "models"])
def test_every_synthetic_cell_has_its_real_one_and_its_data_can_be_collected(
    study: Any, plan: str
) -> None:
    runs = study.PLANS[plan]()
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    for run in runs:
        assert run.data in NAMES
        assert study.replace(run, kind="real").name in names


def test_the_full_plan_is_what_was_registered(study: Any) -> None:
    runs = study.full()
    assert {run.share for run in runs} == {2, 5, 15, 50, 100}
    assert {run.kind for run in runs} == {"real", "new", "2023", "mixed"}
    for late in ("edac", "cql", "td3_bc-wide"):
        assert len({(run.data, run.share) for run in runs if run.algorithm == late}) == 2


def test_commands_differ_in_what_the_kind_of_rows_says(study: Any) -> None:
    runs = {kind: study.Run("hopper-medium", 15, kind) for kind in study.KINDS}
    words = {kind: [str(word) for word in study.agent_command(run, Path("d.npz"), Path("f"))]
             for kind, run in runs.items()}  # fmt: skip
    assert "--diffusion.path" not in words["real"]
    assert words["mixed"][-2:] == ["--diffusion.mix", "0.5"]
    assert runs["new"].model == runs["mixed"].model != runs["2023"].model
    models = {kind: study.model_command(runs[kind], Path("d.npz"), Path("f"))
              for kind in ("new", "2023")}  # fmt: skip
    assert "construct_diffusion_model.normalizer_type='standard'" in models["2023"]
    assert models["2023"][models["2023"].index("--consistency") + 1] == "off"
    assert models["new"][models["new"].index("--consistency") + 1] == "ensemble"


def test_every_algorithms_command_is_one_that_it_takes(study: Any) -> None:
    """And those that learn late are computed faster, on real rows and on samples alike."""
    for name, (script, updates, _) in study.AGENTS.items():
        for kind in study.KINDS:
            run = study.Run("halfcheetah-medium-replay", 15, kind, name, replicate=1)
            _, *words = map(str, study.agent_command(run, Path("d.npz"), Path("f")))
            config = parse(find_algorithm(script).config_class, words)
            assert (config.max_timesteps, config.seed, config.num_seeds) == (updates, 4, 4)
            assert config.eval_freq * 10 == updates
            assert config.precision == ("bf16" if name in ("edac", "cql") else "fp32")
            if not torch.cuda.is_available():
                assert config.compile == ("default" if name in ("edac", "cql") else "off")


def test_help_harm_and_neither_are_welchs_interval_over_the_seeds(study: Any) -> None:
    real = [10.0, 11.0, 12.0, 11.5]
    planted = {"new": [20.0, 21.0, 19.0, 22.0], "2023": [1.0, 2.0, 1.5, 1.0],
               "mixed": [10.0, 12.0, 13.0, 11.0]}  # fmt: skip
    plant(study, study.Run("hopper-medium", 15, "real"), real)
    for kind, scores in planted.items():
        plant(study, study.Run("hopper-medium", 15, kind), scores)
    plant(study, study.Run("hopper-medium", 2, "new"), real)  # without its real rows
    found = {each["kind"]: each for each in study.cells()}
    assert {kind: each["verdict"] for kind, each in found.items()} == {
        "new": "help", "2023": "harm", "mixed": "neither"
    }  # fmt: skip
    assert len(study.cells()) == 3
    one, other = np.array(planted["new"]), np.array(real)
    errors = np.array([one.var(ddof=1), other.var(ddof=1)]) / 4
    freedom = errors.sum() ** 2 / (errors**2 / 3).sum()
    half = stats.t.ppf(0.975, freedom) * np.sqrt(errors.sum())
    gain = one.mean() - other.mean()
    expected = (gain, gain - half, gain + half)
    assert tuple(found["new"][key] for key in ("gain", "low", "high")) == pytest.approx(
        expected, abs=0.01
    )
    assert found["new"]["features"]["rows"] == 1200
    assert found["new"]["behaviour"] == 12.5


REAL = ([10.0, 11.0, 12.0, 11.5], [8.0, 9.5, 9.0, 10.0])
GAINS = ([1.0, 2.0, 2.5, 1.5], [0.5, 2.0, 1.0, 2.5], [6.0, 7.0, 6.5, 7.5])


@pytest.mark.parametrize(("second", "apart"), [(1, False), (2, True)])
def test_replicates_are_pooled_and_each_is_told(study: Any, second: int, apart: bool) -> None:
    import help_shown

    pairs = [(np.add(REAL[place], GAINS[number]), np.array(REAL[place]))
             for place, number in enumerate((0, second))]  # fmt: skip
    for replicate, (ours, real) in enumerate(pairs):
        plant(study, study.Run("hopper-medium", 2, "new", replicate=replicate), list(ours))
        plant(study, study.Run("hopper-medium", 2, "real", replicate=replicate), list(real))
    (cell,) = study.cells()
    pooled = [np.concatenate([pair[side] for pair in pairs]) for side in (0, 1)]
    interval = stats.ttest_ind(*pooled, equal_var=False).confidence_interval(0.95)
    assert (cell["low"], cell["high"]) == pytest.approx((interval.low, interval.high))
    assert (cell["seeds"], cell["replicates"]) == (8, 2)
    expected = [np.mean(GAINS[0]), np.mean(GAINS[second])]
    assert cell["gains"] == pytest.approx(expected)
    assert cell["apart"] == apart
    row = help_shown.page([cell]).partition(help_shown.END)[0].splitlines()[-1]
    assert f"[{expected[0]:+.1f}, {expected[1]:+.1f}]{'*' if apart else ' |'}" in row


def test_real_rows_of_a_kind_with_fewer_replicates_are_not_what_is_shown(study: Any) -> None:
    import help_shown

    for replicate, scores in enumerate(([4.0, 5.0], [8.0, 9.0])):
        run = study.Run("hopper-medium", 2, "new", replicate=replicate)
        plant(study, run, scores)
        plant(study, study.replace(run, kind="real"), scores)
    plant(study, study.Run("hopper-medium", 2, "2023"), [1.0, 2.0])
    found = {each["kind"]: each for each in study.cells()}
    assert (found["2023"]["real"], found["new"]["real"]) == (4.5, 6.5)
    for order in (("2023", "new"), ("new", "2023")):
        page = help_shown.page([found[kind] for kind in order])
        assert "| TD3+BC | 12.5 | 6.5 |" in page


def test_of_three_replicates_the_interval_over_them_is_told(study: Any) -> None:
    import help_shown

    for replicate in range(3):
        run = study.Run("hopper-medium", 2, "new", replicate=replicate)
        plant(study, run, list(np.add(REAL[0], GAINS[replicate])))
        plant(study, study.replace(run, kind="real"), REAL[0])
    (cell,) = study.cells()
    gains = np.mean(GAINS, axis=1)
    half = stats.t.ppf(0.975, 2) * gains.std(ddof=1) / np.sqrt(3)
    expected = gains.mean() - half, gains.mean() + half
    assert cell["over_replicates"] == pytest.approx(expected)
    assert cell["apart"]  # the first and the last, or the two last
    low, high = expected
    assert f"[+1.8, +1.5, +6.8: {low:.1f} to {high:.1f}]* |" in help_shown.page([cell])


def test_replicates_of_no_difference_are_seldom_called_apart(study: Any) -> None:
    """Five in a hundred, as a 95 % interval says, give or take three standard errors."""
    import help_results

    rng = np.random.default_rng(0)
    scales = np.array([1.0, 3.0, 2.0, 0.5]).reshape(2, 2, 1)
    called = [help_results.are_apart(rng.normal(size=(2, 2, 4)) * scales) for _ in range(2000)]
    assert 0.035 < np.mean(called) < 0.065
    assert not help_results.are_apart([rng.normal(size=(2, 4))])
    assert help_results.are_apart([[[2.0] * 4, [1.0] * 4], [[1.0] * 4, [1.0] * 4]])


def test_the_best_evaluation_of_each_agent_has_its_own_gain(study: Any) -> None:
    """Agents on real rows that rise as high and fall again gain by their last scores alone."""
    import help_shown

    rng = np.random.default_rng(0)
    rise = rng.normal(20, 5, size=(7, 4))
    ends = {"new": (rise + 0.5, 12), "real": (rise, 1)}
    curves = {kind: np.concatenate([start, rng.normal(end, 0.5, size=(3, 4))])
              for kind, (start, end) in ends.items()}  # fmt: skip
    for kind, curve in curves.items():
        run = study.Run("hopper-medium", 15, kind)
        plant(study, run, list(curve[-3:].mean(axis=0)))
        path = study.RESULTS / f"{run.name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"curve": curve.tolist()}))
    (cell,) = study.cells()
    on_samples, on_real = (curves[kind].max(axis=0) for kind in ("new", "real"))
    interval = stats.ttest_ind(on_samples, on_real, equal_var=False).confidence_interval(0.95)
    at_best = cell["at_best"]
    assert at_best["gain"] == pytest.approx(on_samples.mean() - on_real.mean())
    assert (at_best["low"], at_best["high"]) == pytest.approx((interval.low, interval.high))
    assert (cell["verdict"], at_best["verdict"]) == ("help", "neither")
    _, _, second = help_shown.page([cell]).partition(help_shown.BEST_START)
    text = f"{at_best['gain']:+.1f} ({interval.low:.1f} to {interval.high:.1f})"
    assert f"| hopper-medium, 1 200 (15 %) | TD3+BC | {text} |" in second


def test_a_curve_is_flat_by_its_points_or_its_interval(study: Any) -> None:
    import help_results

    steady = np.tile([10.0, 12.0], (10, 1))
    rising = steady + np.outer(np.arange(10), [1.0, 1.1])
    noisy = steady.copy()
    noisy[-3:] += [[9.0, -6.0]]
    assert help_results.is_flat([steady])
    assert not help_results.is_flat([rising])
    assert help_results.is_flat([noisy])
    ends = [help_results.trend([each]) for each in (steady, rising, steady - rising, noisy)]
    assert ends == ["flat", "rising", "falling", "unclear"]


def test_the_table_is_written_for_advise_and_the_figure_drawn(
    study: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("real", "new", "mixed"):
        plant(study, study.Run("hopper-medium", 15, kind), [1.0, 2.0, 3.0, 4.0])
    study.main(["--table", str(tmp_path / "table.json"), "--figure"])
    written = json.loads((tmp_path / "table.json").read_text())
    assert [each["verdict"] for each in written["cells"]] == ["neither", "neither"]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    page = study.RESULTS.with_suffix(".md").read_text()
    expected = "hopper-medium, 1 200 (15 %) | TD3+BC | 12.5 | 2.5"
    assert f"| {expected} | +0.0 (-2.2 to 2.2) | +0.0 (-2.2 to 2.2) |" in page
    lines = (tmp_path / "README.md").read_text().splitlines(keepends=True)
    before, *_, row, _, after = lines
    assert (before, after) == ("before\n", "after\n")
    assert row == "| Hopper medium, 12.5 |  |  | +0.0 (-2.2 to 2.2) | +0.0 (-2.2 to 2.2) |\n"
    assert lines[2].count("|") == row.count("|")


def test_the_readme_says_what_the_table_of_advise_holds(study: Any) -> None:
    import help_shown

    table = help_shown.REPOSITORY / "synther/advise/table.json"
    found = json.loads(table.read_text(encoding="utf-8"))["cells"]
    readme = help_shown.README.read_text(encoding="utf-8")
    assert help_shown.with_summary(readme, found) == readme
    with pytest.raises(ValueError, match="no place for the table"):
        help_shown.with_summary(readme.replace(help_shown.END, ""), found)


@pytest.mark.parametrize("side", [1, -1])
def test_a_word_that_is_barely_right_is_so_in_the_table(
    study: Any, tmp_path: Path, side: int
) -> None:
    """Rounded to two places, this interval would begin, or end, at 0."""
    ours, real = np.array([20.0, 21.0, 19.0, 22.0]), np.array([10.0, 11.0, 12.0, 11.5])
    interval = stats.ttest_ind(ours, real, equal_var=False).confidence_interval(0.95)
    # The means so far apart that the end next to 0 is 0.003 away from it.
    plant(study, study.Run("hopper-medium", 15, "real"), list(side * real))
    barely = side * (ours - interval.low + 0.003)
    plant(study, study.Run("hopper-medium", 15, "new"), list(barely))
    path = tmp_path / "table.json"
    study.main(["--table", str(path)])
    (cell,) = json.loads(path.read_text())["cells"]
    assert cell["verdict"] == ("help" if side > 0 else "harm")
    assert cell["low" if side > 0 else "high"] == pytest.approx(side * 0.003)


@pytest.mark.parametrize("flags", [("--table", "table.json"), ("--figure",)])
def test_without_results_nothing_is_replaced(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {Path(name): f"a good {name}" for name in ("table.json", "figure.png", "results.md")}
    for path, text in before.items():
        path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        study.main(flags)
    assert isinstance(ended.value.code, str)  # printed, with exit code 1
    assert "python3 benchmarks/when_does_it_help.py makes them" in ended.value.code
    assert {path: path.read_text() for path in before} == before


def test_what_is_finished_is_not_done_again(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "start", None)
    monkeypatch.setattr(study, "trained", None)
    run = study.Run("hopper-medium", 15, "new")
    plant(study, run, [1.0])
    study.do(Path("nowhere"), run, Lock())


def test_the_commands_that_are_printed_are_those_that_are_done(
    study: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a folder"
    run = study.Run("hopper-medium", 15, "mixed")
    done: list[list[str]] = []
    monkeypatch.setattr(study, "start", lambda log, *words: done.append([*map(str, words)]))
    monkeypatch.setattr(
        study, "trained", lambda runs, log, command: done.append([*map(str, command)])
    )
    monkeypatch.setattr(study, "evaluations", lambda _: np.zeros((10, 4)))
    monkeypatch.setattr(study, "pilot_figures", lambda rows, seed: {})
    collected = (
        load_dataset("hopper-demo-v0")
        .subset(slice(400))
        .save(folder / "collected/hopper-medium.npz")
    )
    monkeypatch.setattr(study.Collection, "path", lambda *_: collected)
    study.do(folder, run, Lock())
    study.main(["--dry-run", "--folder", str(folder), "--only", run.name])
    printed = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    collecting, part, *others = printed
    assert others == [["python3", *words] for words in done]
    where = ["hopper-medium", "--folder", str(collected.parent)]
    assert collecting == ["python3", "-m", "synther.datasets.collect", *where]
    path = study.rows_path(folder, run)
    prepared = load_dataset(path)
    path.unlink()
    assert part[:2] == ["python3", "-c"]
    exec(part[2], {})
    assert np.array_equal(load_dataset(path).observations, prepared.observations)


def test_what_is_printed_once_serves_every_run(study: Any) -> None:
    lines = study.planned(Path("f"), study.cheap())
    assert len(set(lines)) == len(lines)
    assert sum("synther.datasets.collect" in line for line in lines) == 5
    assert sum("train_diffuser.py" in line for line in lines) == 12


def test_rows_are_prepared_with_the_features_of_their_data_set(
    study: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = record_episodes(
        "Hopper-v2", lambda rng: lambda _: rng.uniform(-1, 1, 3), rows=300, seed=0
    )
    path = study.replace(whole, metadata={"env_id": "Hopper-v2", "score": 1.5}).save(
        tmp_path / "whole.npz"
    )
    monkeypatch.setattr(study.Collection, "path", lambda self, name: path)
    monkeypatch.setattr(study, "pilot_figures", lambda rows, seed: {"pilot_error": 2.0})
    run = study.Run("hopper-random", 50, "real")
    study.prepare(tmp_path, run)
    found = json.loads((study.RESULTS / f"features-{run.rows}.json").read_text())
    assert found["rows"] == round(len(whole) / 2)
    assert found["behaviour"]["score"] == 1.5
    assert found["pilot_error"] == 2.0
    assert found["episodes"] == round(study.describe(whole).episodes / 2)

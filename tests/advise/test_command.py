"""The command from data to text, with a planted table and a pilot of seconds."""

import json
import runpy
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from synther.advise import calibration, command
from synther.advise import features as described
from synther.advise.advice import Advice
from synther.advise.calibration import Times, measure
from synther.advise.features import Features, describe
from synther.advise.study import Score, answers
from synther.advise.table import Cell
from synther.datasets import load_dataset
from synther.diffusion.generation.terminal_rate import probe_rows
from synther.diffusion.successors import fitting
from synther.transitions import TransitionLayout, Transitions
from synther.upsampling import learning
from synther.upsampling.config import UpsampleConfig, default_config
from tests.advise.test_features import SMALL_PILOT
from tests.advise.test_study import HERE, cell

SMALL = UpsampleConfig(width=16, num_layers=1, steps=100)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "PILOT", SMALL_PILOT)
    monkeypatch.setattr(command, "default_config", lambda rows, device: SMALL)
    monkeypatch.setattr(calibration, "SAMPLES", 20)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return load_dataset("hopper-demo-v0").subset(slice(900)).save(tmp_path / "data.npz")


def table_near(path: Path, features: Features, word: str) -> Path:
    cells = [cell(name, word, features=features) for name in "ab"]
    path.write_text(json.dumps({"cells": [asdict(each) for each in cells]}))
    return path


@pytest.mark.usefixtures("quick")
def test_advice_is_printed_with_its_error(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    near = describe(load_dataset(data))
    table = table_near(tmp_path / "table.json", near, "help")
    command.main([str(data), "--table", str(table), "--device", "cpu"])
    said = " ".join(capsys.readouterr().out.split())
    assert "900 rows of 26 columns" in said
    assert "2 of the study's 2 cells got an answer and 2 of these were right" in said
    assert "a synthetic share of 1 (samples alone) for td3_bc, from a model of width 16" in said
    assert "no better than one word for all" in said
    assert "Time here: model" in said
    assert "What this cannot know" in said


def said_of(*cells: Cell) -> Advice:
    score = Score(4, 4, 1, 3)
    return Advice(HERE, answers(cells, HERE), score, SMALL, Times(1.0, 1.0, 1.0, 1.0))


def test_what_near_cells_saw_is_said_where_no_answer_does() -> None:
    plain = said_of(cell("a", "neither")).suggestion()
    assert "learn from the real rows; near cells show no help from synthetic ones" in plain
    split = said_of(cell("a", "help", 2), cell("b", "harm", 2), cell("c", "neither", 2))
    assert "of 3 near cells 1 saw help and 1 saw harm, too few or too far" in split.suggestion()
    harm = said_of(cell("a", "harm", seeds=8)).suggestion()
    assert "no help from synthetic ones; the study saw harm from samples alone" in harm


def test_how_many_cells_and_agents_are_behind_an_answer_is_said() -> None:
    alone = said_of(cell("a", "help", seeds=8))
    assert [*alone.table().columns[2].cells] == ["help (one cell)"]
    assert "each cell is 8 agents on the samples of one model" in alone.unknown()
    pair = said_of(cell("a", "help", seeds=8), cell("b", "help", 2))
    assert [*pair.table().columns[2].cells] == ["help"]
    assert "each cell is 4 or 8 agents" in pair.unknown()
    again = said_of(cell("a", "help", seeds=8, gains=(7.0, 3.0)), cell("b", "help", 2))
    first, second = next(iter(again.table().columns[3].cells)).splitlines()
    assert first == "a 15 %: 0.00, +5.0 (+4.0 to +6.0); its 2 models +3.0 to +7.0"
    assert second.endswith("(+4.0 to +6.0)")
    assert "each cell is 4 or 8 agents on the samples of 1 or 2 models" in again.unknown()
    assert "drawn at random from many episodes" in pair.unknown()
    assert "keep the best of an agent's evaluations" in pair.unknown()
    none = Advice(replace(HERE, episodes=0), pair.answers, pair.score, SMALL, pair.times)
    assert "no whole episodes" in none.description()


@pytest.mark.usefixtures("quick")
def test_data_that_no_cell_is_near_to_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = replace(describe(load_dataset(data)), rows=10**9, columns=10**4)
    table = table_near(tmp_path / "table.json", far, "help")
    with pytest.raises(SystemExit) as stopped:
        command.main([str(data), "--table", str(table), "--device", "cpu"])
    assert stopped.value.code == 1
    assert "the study has nothing like these data" in capsys.readouterr().err


def test_an_empty_table_is_refused_before_anything_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "pilot_figures", None)
    (tmp_path / "table.json").write_text('{"cells": []}')
    with pytest.raises(SystemExit) as stopped:
        command.main([str(data), "--table", str(tmp_path / "table.json")])
    assert stopped.value.code == 1
    assert "nothing that advice could rest on" in capsys.readouterr().err


def test_too_few_rows_are_refused(data: Path, tmp_path: Path) -> None:
    Transitions.load(data).subset(slice(50)).save(tmp_path / "few.npz")
    table = table_near(tmp_path / "table.json", HERE, "help")
    with pytest.raises(ValueError, match="50 rows, expected 200 or more"):
        command.advise(str(tmp_path / "few.npz"), table=table)


@pytest.mark.parametrize(
    ("word", "right", "said", "unsaid"),
    [
        ("help", 4, "a synthetic share of 0.5 (half real rows, half samples)", "no better"),
        ("neither", 2, "near cells show no help from synthetic ones. On the study's", "harm"),
        ("harm", 4, "the study saw harm from half real rows, half samples", "share"),
    ],
)
def test_no_more_is_suggested_than_the_cells_say(
    word: str, right: int, said: str, unsaid: str
) -> None:
    found = answers([cell("a", word, kind="mixed")], HERE)
    advice = Advice(HERE, found, Score(6, 5, right, 3), SMALL, Times(60, 240, 60, 9000))
    assert said in advice.suggestion()
    assert unsaid not in advice.suggestion()
    assert "what makes its samples consistent 4 min, 10000 samples 60 s" in advice.duration()
    assert "1000000 updates of TD3+BC 2 h" in advice.duration()


@pytest.mark.parametrize(
    ("algorithm", "config", "said"),
    [
        ("td3_bc", default_config(40_000, torch.device("cpu")), None),
        ("td3_bc", default_config(110_000, torch.device("cpu")), "width 256 and 8000 steps"),
        ("td3_bc", default_config(40_000, torch.device("cuda")), "width 256 and 8000 steps"),
        ("td3_bc-paper", default_config(110_000, torch.device("cuda")), None),
        ("td3_bc-paper", default_config(110_000, torch.device("cpu")), "width 2048 and 100000"),
    ],
)
def test_a_model_of_another_size_than_the_studys_is_said_to_be_one(
    algorithm: str, config: UpsampleConfig, said: str | None
) -> None:
    found = answers([cell("a", "help", algorithm=algorithm)], HERE)
    suggestion = Advice(HERE, found, Score(6, 5, 4, 3), config, Times(1, 1, 1, 1)).suggestion()
    assert f"a model of width {config.width}" in suggestion
    if said is None:
        assert "the study's models" not in suggestion
    else:
        assert f"; the study's models had {said}" in suggestion


def test_times_are_measured(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.setattr(calibration, "SAMPLES", 20)
    times = measure(load_dataset(data), SMALL, torch.device("cpu"))
    # A step of the regressions takes longer than one of this model, and there are twice as many.
    assert times.last_stage > times.model
    assert times.samples > 0
    assert times.agent > 0


def test_model_and_last_stage_are_timed_with_all_their_parts(
    monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    """3 s for each step of the model, and one for each of the regressions and each row drawn."""
    now = [0.0]
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    def trained(*arguments: Any) -> None:
        pass_by(11 + 3 * arguments[2].steps)

    monkeypatch.setattr(calibration, "train", trained)
    monkeypatch.setattr(calibration, "fit_ensemble", lambda *_, steps, **__: pass_by(7 + steps))
    monkeypatch.setattr(calibration.FittedModel, "draw", lambda _, rows, seed: pass_by(rows))
    rows = load_dataset(data)
    rate = float(rows.terminals.mean())
    assert 0 < rate < 0.1
    times = measure(rows, SMALL, torch.device("cpu"))
    assert times.model == pytest.approx(3 * SMALL.steps)
    assert times.samples == len(rows)
    assert times.last_stage == pytest.approx(2 * SMALL.steps + probe_rows(rate))


@pytest.mark.parametrize(("rows", "batch", "drawn"), [(900, 10_000, 900), (5_000, 2_000, 2_000)])
def test_on_a_gpu_a_whole_batch_is_drawn_and_waited_for(
    rows: int, batch: int, drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first draw takes 100 s more, and no draw is done before somebody waits for it."""
    now, asked, counts = [0.0], [100.0], []
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now[0])

    def draw(count: int, seed: int) -> None:
        counts.append(count)
        asked[0] += 5

    def synchronize(device: torch.device) -> None:
        now[0] += asked[0]
        asked[0] = 0

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    fitted: Any = SimpleNamespace(draw=draw, config=replace(SMALL, sample_batch_size=batch))
    assert calibration._row_time(fitted, rows, torch.device("cuda")) == 5 / drawn
    assert counts == [drawn, drawn]


def test_updates_are_timed_without_what_prepares_them(
    monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    """A second each, and one for each draw of random numbers on the host."""
    now, noises = [0.0], []
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now[0])
    rand = torch.rand

    def drawn(*arguments: Any, **options: Any) -> torch.Tensor:
        now[0] += 1
        return rand(*arguments, **options)

    def update(_: Any, batch: Any, noise: Any, variant: Any) -> None:
        now[0] += 1
        noises.append(noise[0])

    monkeypatch.setattr(torch, "rand", drawn)
    monkeypatch.setattr(calibration.TD3BC, "update", update)
    assert calibration._update_time(load_dataset(data), torch.device("cpu")) == 1
    assert all(each is noises[0] for each in noises)


@pytest.mark.gpu
def test_updates_are_timed_on_a_gpu(data: Path) -> None:
    assert calibration._update_time(load_dataset(data), torch.device("cuda")) > 0


@pytest.mark.parametrize("second", [0.01, 1.0])
def test_a_step_is_timed_though_what_is_beside_it_varies(
    second: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By 2 of 3 s, as on a busy machine, which hides twenty quick steps; slow ones are few."""
    now, runs = [0.0], []
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now[0])

    def learn(steps: int) -> int:
        runs.append(steps)
        now[0] += (3 if len(runs) % 2 else 5) + second * steps  # the short run is the slow one
        return steps

    found, learnt = calibration._timed(learn, 20)
    assert found == pytest.approx(second, rel=0.3)
    assert learnt == runs[-1]
    assert len(runs) == (9 if second < 1 else 3)


@pytest.mark.parametrize(("rows", "steps"), [(900, 8_000), (40_000, 8_000), (900, 100)])
def test_the_steps_of_the_regressions_are_those_that_are_taken(
    rows: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    class Stopped(Exception):
        pass

    def fitted(data: Any, size: Any, seed: int) -> None:
        taken.append(size.steps)
        raise Stopped

    monkeypatch.setattr(fitting, "_fitted", fitted)
    monkeypatch.setattr(learning, "train", lambda *_: SimpleNamespace())
    data, config = load_dataset("hopper-demo-v0").subset(slice(rows)), replace(SMALL, steps=steps)
    layout = TransitionLayout.of(data)
    with pytest.raises(Stopped):
        learning.learn(data, layout, config, torch.device("cpu"), learning.Round(0, 0))
    assert taken == [calibration._regression_steps(data, config)]


def test_as_a_module_it_is_called_as_it_was_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["__main__.py"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("synther.advise", run_name="__main__", alter_sys=True)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: python3 -m synther.advise: the following")

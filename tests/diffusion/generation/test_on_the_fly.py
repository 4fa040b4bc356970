"""A saved model as a source of rows: what a file that does not hold its layout is taken for."""

from pathlib import Path

import pytest
import torch

from synther.diffusion.generation import on_the_fly
from synther.diffusion.generation.on_the_fly import rows_of_model
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.runs.settings import ConfigError
from synther.transitions import TransitionLayout
from tests.corl.helpers import write_model

AGENTS = TransitionLayout(3, 2)


@pytest.fixture(params=[True, False], ids=["terminals", "no terminals"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, TransitionLayout]:
    """A model without its layout, as those of the 2023 release, and config.gin beside it."""
    layout = TransitionLayout(3, 2, request.param)
    path = write_model(tmp_path / "model-0.pt", layout)
    payload = checkpoint.load(path)
    del payload["layout"]
    checkpoint.save(path, payload)
    (tmp_path / "config.gin").write_text(f"make_inputs.modelled_terminals = {request.param}")
    return path, layout


def test_rows_always_have_a_terminal_column(written: tuple[Path, TransitionLayout]) -> None:
    path, layout = written
    rows = rows_of_model(path, AGENTS, "cpu", num_steps=3)(400, torch.Generator().manual_seed(0))
    assert rows.shape == (400, AGENTS.row_dim)
    flags = AGENTS.split(rows)["terminals"]
    assert bool(flags.any()) == layout.terminals


def test_a_model_is_not_fitted_to_the_columns_that_it_happens_to_have(
    written: tuple[Path, TransitionLayout],
) -> None:
    """Rows of (3, 2) with a terminal are as wide as (3, 3) without, and without as (3, 1) with."""
    path, layout = written
    as_wide = TransitionLayout(3, 3 if layout.terminals else 1)
    with pytest.raises(
        CheckpointError, match=rf"{path.name}: .*{layout.row_dim} columns, expected"
    ):
        rows_of_model(path, as_wide, "cpu", num_steps=3)


def test_the_first_rows_have_a_bar_and_a_price(
    written: tuple[Path, TransitionLayout],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_the_fly, "DEAR", 0.0)
    generate = rows_of_model(written[0], AGENTS, "cpu", num_steps=3)
    noise = torch.Generator().manual_seed(0)
    generate(40, noise)
    said = capsys.readouterr().err
    assert "40 rows of model-0.pt: 100%" in said
    assert "| 5/5 [" in said  # Heun: two calls a step, less one
    assert "--load_checkpoint" in said
    assert f"--results_folder {written[0].parent} " in said
    generate(40, noise)
    assert capsys.readouterr().err == ""
    rows_of_model(written[0], AGENTS, "cpu", num_steps=3, refreshed=True)(40, noise)
    said = capsys.readouterr().err
    assert "used once. With --diffusion.sample_limit N, N rows are used again" in said
    assert "--load_checkpoint" not in said
    rows_of_model(written[0], AGENTS, "cpu", num_steps=3, kept=True)(40, noise)
    said = capsys.readouterr().err
    assert "40 rows of model-0.pt" in said
    assert "used once" not in said


def test_the_price_is_said_after_a_few_calls(
    written: tuple[Path, TransitionLayout],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock on which the first call takes 50 s and every other one 2 s."""
    now = [0.0]
    monkeypatch.setattr(on_the_fly.time, "perf_counter", lambda: now[0])
    generate = rows_of_model(written[0], AGENTS, "cpu", num_steps=128)
    said: list[str] = []

    def call(*_: object) -> None:
        said.append(capsys.readouterr().err)
        now[0] += 2.0 if now[0] else 50.0

    network = generate.generator.model.net
    network.register_forward_pre_hook(call)
    generate(25_600, torch.Generator().manual_seed(0))
    assert len(said) == 255
    (when,) = [number for number, text in enumerate(said) if "each of them is used once" in text]
    assert when == 4
    # 255 calls of 2 s
    assert "these 25600 rows take about 8 minutes on this CPU, a thousand 20 s" in said[when]


def test_the_probe_of_the_consistency_is_not_in_the_price(
    written: tuple[Path, TransitionLayout],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generate = rows_of_model(written[0], AGENTS, "cpu", num_steps=3)
    network = generate.generator.model.net

    def probe() -> None:
        for _ in range(7):
            network(torch.zeros(1, written[1].row_dim), torch.zeros(1))

    monkeypatch.setattr(generate.generator, "consistency", "ensemble")
    monkeypatch.setattr(generate.generator, "last_stage", probe)
    generate(40, torch.Generator().manual_seed(0))
    said = capsys.readouterr().err
    for title in ("a look at rows", "40 rows"):
        (end,) = [
            each for each in said.split("\r") if each.startswith(f"{title} of") and "5/5" in each
        ][-1:]
        assert "100%" in end


def test_an_unknown_sampler_is_named(written: tuple[Path, TransitionLayout]) -> None:
    with pytest.raises(ConfigError, match=r"diffusion\.sampler: sampler 'nope'"):
        rows_of_model(written[0], AGENTS, "cpu", num_steps=3, sampler="nope")

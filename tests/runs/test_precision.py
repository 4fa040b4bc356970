"""The precision of a run: what auto becomes, and what is said of bf16 where it is slow."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from synther.runs import precision
from synther.runs.precision import rates, settled
from synther.runs.runtime import say_once
from synther.transitions import Transitions
from tests.faults.runs import DIFFUSION_GIN, KINDS, ONLINE_GIN, write_data

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False])
def units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the device multiplies bfloat16."""
    for module in ("runs.precision", "diffusion.generation.presets"):
        monkeypatch.setattr(f"synther.{module}.multiplies_bf16_fast", lambda _: request.param)
    monkeypatch.setattr(precision, "rates", lambda _: (96.04, 4.2))
    say_once.cache_clear()
    return bool(request.param)


def test_auto_is_what_the_device_has_units_for(
    units: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settled("auto", CPU) == ("bf16" if units else "fp32")
    said = capsys.readouterr().out
    assert said == (
        "precision auto is bf16: cpu has units for products in bfloat16\n"
        if units
        else "precision auto is fp32: cpu has no units for products in bfloat16\n"
    )


def test_bf16_without_units_is_taken_with_a_warning_of_both_rates(units: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [settled(each, CPU) for each in ("fp32", "tf32", "bf16")] == ["fp32", "tf32", "bf16"]
    messages = [str(each.message) for each in caught]
    assert len(messages) == (not units)
    if not units:
        assert "at 96 GFLOP/s in float32 and at 4.2 in bfloat16. Use fp32, or auto" in messages[0]


def test_rates_are_of_products() -> None:
    full, half = rates(CPU)
    assert full > 0.01
    assert half > 0.001


def settings(kind: str, folder: Path) -> list[str]:
    """What a run wrote of its precision."""
    if kind == "offline":
        return [yaml.safe_load((folder / "config.yaml").read_text())["precision"]]
    written = json.loads((folder / "run.json").read_text())
    if kind == "online":
        return [written["redq_sac.precision"].strip("'")]
    samples = Transitions.load(folder / "samples.npz").metadata
    return [written["precision"], samples["generator"]["precision"]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_settles_it_once_and_writes_it_down(
    kind: str, units: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bound = {
        "diffusion": [
            *("--gin_params", *DIFFUSION_GIN, "Trainer.precision='auto'"),
            "SimpleDiffusionGenerator.precision='auto'",
        ],
        "offline": ["--precision", "auto"],
        "online": [
            *("--gin_config_files", "config/online/sac.gin", "--gin_params", *ONLINE_GIN[:4]),
            "redq_sac.precision = 'auto'",
        ],
    }
    run, data = KINDS[kind], write_data(tmp_path / "data.npz")
    words = [*run.words(data, tmp_path), *bound[kind]]
    run.start(words)
    expected = "bf16" if units else "fp32"
    assert set(settings(kind, tmp_path / run.folder)) == {expected}
    assert capsys.readouterr().out.count("precision auto is ") == 1
    run.start([*words, "--resume"])

"""Numbers that stop being finite, and a device that is lost, in the middle of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from synther.corl.algorithms.td3_bc import TD3BC
from synther.diffusion.training.step import TrainingDivergedError, TrainingStep
from synther.files import checkpoint
from synther.online.redq_rlpd_agent import REDQRLPDAgent
from tests.diffusion.models import tiny_trainer
from tests.faults.runs import KINDS, difference, outcome

# What one update of each kind is, how many of them come before the fault, the checkpoint that is
# then the last, and a network of the run.
UPDATES: dict[str, tuple[Any, str, int, str, Callable[[Any], torch.nn.Module]]] = {
    "diffusion": (TrainingStep, "update", 45, "model-40.pt", lambda run: run.diffusion_model),
    "offline": (TD3BC, "update", 25, "checkpoint-20.pt", lambda run: run.actor),
    "online": (REDQRLPDAgent, "train_block", 25, "checkpoint-20.pt", lambda run: run.actor),
}


def after_updates(
    monkeypatch: pytest.MonkeyPatch, kind: str, fault: Callable[[torch.nn.Module], None]
) -> None:
    """Let ``fault`` happen after the given number of updates."""
    owner, name, count, _, network = UPDATES[kind]
    original, done = getattr(owner, name), 0

    def update(self: Any, *args: Any, **keys: Any) -> Any:
        nonlocal done
        result = original(self, *args, **keys)
        done += 1
        if done == count:
            fault(network(self))
        return result

    monkeypatch.setattr(owner, name, update)


@torch.no_grad()
def spoil(network: torch.nn.Module) -> None:
    """One weight of the last layer, which every output depends on, becomes NaN."""
    list(network.parameters())[-1].view(-1)[0] = float("nan")


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_stops_the_run_and_is_never_saved(
    kind: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = KINDS[kind]
    after_updates(monkeypatch, kind, spoil)
    with pytest.raises(SystemExit) as stopped:
        run.start(run.words(data, tmp_path))
    assert stopped.value.code == 3
    message = capsys.readouterr().err
    assert "is not finite, seen at" in message
    assert f"last good checkpoint: {tmp_path / run.folder / UPDATES[kind][3]}" in message
    assert message.count("last good checkpoint") == 1
    written = list((tmp_path / run.folder).glob("*.pt"))
    assert written
    for path in written:
        assert_finite(checkpoint.load(path), path.name)


def assert_finite(tree: Any, where: str) -> None:
    if isinstance(tree, torch.Tensor):
        assert tree.isfinite().all(), where
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key != "totals":  # of no update yet: the extremes of nothing are infinite
                assert_finite(value, f"{where}/{key}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_device_names_the_checkpoint_that_resume_goes_on_from(
    kind: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def vanish(_: torch.nn.Module) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    run = KINDS[kind]
    with monkeypatch.context() as patch:
        after_updates(patch, kind, vanish)
        with pytest.raises(SystemExit) as stopped:
            run.start(run.words(data, tmp_path / "lost"))
    assert stopped.value.code == 5
    message = capsys.readouterr().err
    folder = tmp_path / "lost" / run.folder
    assert f"last good checkpoint: {folder / UPDATES[kind][3]}; --resume continues" in message
    assert "CUDA" in message
    run.start([*run.words(data, tmp_path / "lost"), "--resume"])
    run.start(run.words(data, tmp_path / "whole"))
    found, expected = outcome(folder), outcome(tmp_path / "whole" / run.folder)
    assert difference(found, expected) is None


def test_a_weight_that_overflows_in_the_very_last_update_is_not_saved(tmp_path: Path) -> None:
    """Loss and gradient of that update are still finite."""
    trainer = tiny_trainer(tmp_path, 30, save_and_sample_every=20)
    trainer.train(20)
    trainer.train_on_batch(trainer.rows.draw(8))
    spoil(trainer.diffusion_model)
    with pytest.raises(TrainingDivergedError, match=r"a weight is not finite.*model-20\.pt"):
        trainer.save()
    assert list(checkpoint.steps(tmp_path, "model")) == [20]

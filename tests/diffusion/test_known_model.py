"""A model is sampled again with the data that it is of, and only those are called held out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synther.datasets import digest
from synther.diffusion.fidelity.held_out import hold_out
from synther.diffusion.known_model import latest_model, split_of
from synther.diffusion.provenance import TRAINED_ON, Provenance
from synther.files import atomic, checkpoint
from synther.files.checkpoint import CheckpointError
from synther.transitions import FIELDS, Transitions
from tests.data import random_transitions
from tests.diffusion.models import tiny_trainer

DATA = replace(random_transitions(200), metadata={"dataset": "mine", "env_id": "Hopper-v2"})
OTHERS = replace(random_transitions(200, seed=1), metadata={"dataset": "other"})
RUN = {"dataset": "mine.npz", "rows": 180, "seed": 7, "held_out": 0.1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that held out a tenth of DATA by seed 7."""
    trainer = tiny_trainer(tmp_path)
    learnt = Provenance.of(DATA, held_out=0.1, seed=7)
    for model in (trainer.diffusion_model, trainer.ema.ema_model):
        model.trained_on = learnt
    trainer.save(0)
    return tmp_path


def forget(folder: Path, run: dict[str, Any] | None = None) -> None:
    """Make the folder one of an earlier version."""
    path = folder / "model-0.pt"
    checkpoint.save(path, {k: v for k, v in checkpoint.load(path).items() if k != TRAINED_ON})
    if run:
        atomic.write_json(folder / "run.json", run)


def split(folder: Path, data: Transitions = DATA, name: str = "mine.npz", seed: int = 0) -> Any:
    return split_of(latest_model(folder, "cpu", data, name), data, 0.25, seed)


def test_the_split_is_that_of_the_training_whatever_the_command_says(folder: Path) -> None:
    found = split(folder, seed=3)
    _, held_out = hold_out(DATA, 0.1, 7)
    assert held_out is not None
    np.testing.assert_array_equal(found.held_out.rewards, held_out.rewards)
    assert found.reference == "held-out real rows"
    assert found.note == "held out from training: 20 rows, seed 7"


def test_the_data_are_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, plain = [], digest.hash_of

    def counted(arrays: Any) -> str:
        hashed.append(sorted(arrays))
        return plain(arrays)

    monkeypatch.setattr(digest, "hash_of", counted)
    assert split(folder).reference == "held-out real rows"
    assert hashed == [sorted(FIELDS)]


def test_other_data_of_the_same_columns_are_refused(folder: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"was trained on 200 rows of mine, and --dataset oth"
    ):
        latest_model(folder, "cpu", OTHERS, "other.npz")
    renamed = replace(DATA, metadata={"dataset": "renamed"})
    assert latest_model(folder, "cpu", renamed, "renamed.npz").trained_on.dataset == "mine"


def test_a_run_of_an_earlier_version_is_known_by_its_data_sets_name(folder: Path) -> None:
    forget(folder, RUN)
    assert split(folder).note == "held out from training: 20 rows, seed 7"
    with pytest.raises(CheckpointError, match=r"180 rows of mine.npz, and --dataset other.npz"):
        latest_model(folder, "cpu", OTHERS, "other.npz")
    longer = Transitions.concatenate([DATA, OTHERS])
    assert split(folder, longer).reference != "held-out real rows"


def test_what_nobody_knows_is_not_called_held_out(folder: Path) -> None:
    forget(folder)
    found = split(folder)
    assert found.reference != "held-out real rows"
    assert "the model may have seen the held-out rows" in found.note
    assert len(found.held_out) == 50


def test_a_model_of_all_rows_has_none_held_out(folder: Path) -> None:
    path = folder / "model-0.pt"
    learnt = Provenance.of(DATA, held_out=0, seed=7).to_plain()
    checkpoint.save(path, {**checkpoint.load(path), TRAINED_ON: learnt})
    assert split(folder).held_out is None
    assert len(split(folder).training) == len(DATA)


@pytest.mark.parametrize(
    "changes",
    [{"samples_low": [0.0]}, {"env_id": 3}, {"rows": "many"}, {"action_low": [1.0, 1.0]}],
)
def test_a_file_that_says_nonsense_of_its_data_is_refused(
    folder: Path, changes: dict[str, Any]
) -> None:
    path = folder / "model-0.pt"
    payload = checkpoint.load(path)
    checkpoint.save(path, {**payload, TRAINED_ON: {**payload[TRAINED_ON], **changes}})
    with pytest.raises(CheckpointError, match=r"model-0\.pt"):
        latest_model(folder, "cpu", DATA, "mine.npz")

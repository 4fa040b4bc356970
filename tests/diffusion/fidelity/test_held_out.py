"""The rows that training kept apart are found again, or it is said that they are not known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synther.diffusion.fidelity.held_out import hold_out, split_as_learnt, split_like_training
from synther.diffusion.provenance import TRAINED_ON, Provenance
from synther.files import checkpoint
from tests.data import random_transitions

DATA = random_transitions(400)


def write_run(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    run = {"dataset": "x", "rows": 320, "seed": 4, "held_out": 0.2, **changes}
    (folder / "run.json").write_text(json.dumps(run))
    return folder / "samples.npz"


def test_the_split_of_the_training_is_repeated(tmp_path: Path) -> None:
    training, held_out = hold_out(DATA, 0.2, seed=4)
    assert held_out is not None
    found = split_like_training(DATA, [write_run(tmp_path), tmp_path / "model-1.pt"])
    assert found.unseen
    np.testing.assert_array_equal(found.training.observations, training.observations)
    np.testing.assert_array_equal(found.held_out.observations, held_out.observations)
    assert found.note == "held out from training: 80 rows, seed 4"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": 300}, "trained on 300 rows, not 320"),
        ({"held_out": 0, "rows": 400}, "trained on all rows"),
        ({"held_out": 1.5}, "cannot hold out"),
        ({"seed": None, "rows": None}, "trained on None rows"),
    ],
)
def test_what_the_model_saw_may_not_be_known(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    found = split_like_training(DATA, [write_run(tmp_path, **changes)])
    assert not found.unseen
    assert reason in found.note
    assert (len(found.training), len(found.held_out)) == (360, 40)


def test_files_of_different_runs_and_of_none(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=5)
    assert "differ" in split_like_training(DATA, [first, second]).note
    assert "no such file" in split_like_training(DATA, [first, tmp_path / "samples.npz"]).note
    (tmp_path / "b" / "run.json").write_text('{"seed": 4}')
    assert "lacks 'held_out'" in split_like_training(DATA, [second]).note


def test_no_more_rows_are_held_out_than_sharpen_the_comparison() -> None:
    many = random_transitions(60_000, 1, 1)
    assert [len(part) for part in hold_out(many, 0.5, 0) if part] == [50_000, 10_000]
    assert hold_out(DATA, 0, 0) == (DATA, None)


def learnt(**changes: Any) -> Provenance:
    return replace(Provenance.of(DATA, held_out=0.2, seed=4), **changes)


def test_a_digest_decides_whether_the_data_are_those_of_the_training() -> None:
    training, _ = hold_out(DATA, 0.2, seed=4)
    found = split_as_learnt(DATA, learnt(), share=0.1)
    assert found.unseen
    assert found.reference == "held-out real rows"
    np.testing.assert_array_equal(found.training.rewards, training.rewards)
    others = replace(DATA, rewards=DATA.rewards + 1)
    found = split_as_learnt(others, learnt(), share=0.1)
    assert not found.unseen
    assert found.note.startswith("the model may have seen the held-out rows (it was trained on ot")
    assert found.reference == "real rows of which nobody knows whether the model saw them"
    assert not split_as_learnt(DATA, None, share=0.1).unseen
    assert not split_as_learnt(DATA, learnt(held_out=None), share=0.1).unseen


def test_files_say_it_themselves_whatever_lies_beside_them(tmp_path: Path) -> None:
    beside = write_run(tmp_path, seed=5)
    replace(DATA, metadata=learnt().metadata()).save(beside)
    checkpoint.save(tmp_path / "model-1.pt", {TRAINED_ON: learnt().to_plain()})
    found = split_like_training(DATA, [beside, tmp_path / "model-1.pt"])
    assert found.note == "held out from training: 80 rows, seed 4"
    others = replace(DATA, rewards=DATA.rewards + 1)
    assert not split_like_training(others, [beside]).unseen

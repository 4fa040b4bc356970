"""Checkpoints of anybody: read without executing anything, or refused by name."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared.run_folder import load_weights
from synther.diffusion.model_io import load_model
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning.learner import Dims
from synther.learning.streams import generators_for
from synther.transitions import TransitionLayout
from tests.corl.helpers import write_model
from tests.diffusion.models import tiny_trainer
from tests.fuzz.helpers import FEW, FUZZ, damaged, loads_or_says_why


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model-0.pt", TransitionLayout(3, 2))


@pytest.fixture(scope="module")
def trainer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trainer = tiny_trainer(tmp_path_factory.mktemp("trainer"), 2)
    trainer.train()
    path = trainer.results_folder
    assert path is not None
    return path / "model-2.pt"


def wrap_plain(bomb: Bomb, path: Path) -> None:
    torch.save({"step": 1, "model": bomb}, path)


def wrap_legacy(bomb: Bomb, path: Path) -> None:
    torch.save({"step": 1, "model": bomb}, path, _use_new_zipfile_serialization=False)


def wrap_pickle(bomb: Bomb, path: Path) -> None:
    path.write_bytes(pickle.dumps({"ema": bomb}))


@pytest.mark.parametrize("wrap", [wrap_plain, wrap_legacy, wrap_pickle])
@pytest.mark.parametrize("load", [checkpoint.load, load_model])
def test_a_pickle_bomb_does_not_go_off(
    load: Callable[[Path], Any], wrap: Callable[[Bomb, Path], None], tmp_path: Path
) -> None:
    touched, path = tmp_path / "touched", tmp_path / "bomb.pt"
    wrap(Bomb(f"touch {touched}"), path)
    with pytest.raises(CheckpointError, match=r"bomb\.pt: refused"):
        load(path)
    assert not touched.exists()
    if wrap is wrap_plain:  # the bomb is one
        torch.load(path, weights_only=False)
        assert touched.exists()


@FUZZ
@given(data=st.data())
def test_a_damaged_checkpoint_loads_or_is_named(
    data: st.DataObject, model_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(data.draw(damaged(model_file.read_bytes())))
    loads_or_says_why(load_model, path, CheckpointError)


def test_a_checkpoint_cut_off_anywhere_is_refused(model_file: Path, tmp_path: Path) -> None:
    whole, path = model_file.read_bytes(), tmp_path / "cut.pt"
    for size in [*range(0, len(whole), max(1, len(whole) // 150)), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"cut\.pt"):
            checkpoint.load(path)


def test_a_bit_that_flipped_in_a_weight_is_noticed(tmp_path: Path) -> None:
    """torch writes checksums and does not compare them."""
    path = checkpoint.save(tmp_path / "flip.pt", {"w": torch.zeros(1000)})
    content = bytearray(path.read_bytes())
    at = content.find(b"\0" * 2000) + 1000
    content[at] ^= 64
    path.write_bytes(content)
    assert torch.load(path)["w"].any()
    with pytest.raises(
        CheckpointError, match=r"flip\.pt: cannot be read \(checksum of .* is wrong"
    ):
        checkpoint.load(path)


odd = st.sampled_from(
    [None, 0, -1, 1e30, "text", [], {}, {"a": 1}, torch.zeros(2), torch.zeros(3, 3)]
)


def spoiled(draw: Any, tree: dict[Any, Any]) -> dict[Any, Any]:
    """``tree`` with one value, at any depth, replaced or left out, or a key put in."""
    tree = dict(tree)
    if not tree or draw(st.integers(0, 5)) == 0:
        return {**tree, draw(st.sampled_from(["new", 3, None])): draw(odd)}
    key = draw(st.sampled_from(sorted(tree, key=str)))
    if isinstance(tree[key], dict) and tree[key] and draw(st.booleans()):
        tree[key] = spoiled(draw, tree[key])
    elif draw(st.booleans()):
        tree[key] = draw(odd)
    else:
        del tree[key]
    return tree


@FEW
@given(data=st.data())
def test_a_model_of_other_contents_loads_or_is_named(
    data: st.DataObject, model_file: Path, tmp_path: Path
) -> None:
    payload = spoiled(data.draw, checkpoint.load(model_file))
    path = checkpoint.save(tmp_path / "other.pt", payload)
    loads_or_says_why(load_model, path, CheckpointError)


@FEW
@given(data=st.data())
def test_a_trainer_takes_a_checkpoint_or_names_it(
    data: st.DataObject, trainer_file: Path, tmp_path: Path
) -> None:
    payload = spoiled(data.draw, checkpoint.load(trainer_file))
    path = checkpoint.save(tmp_path / "other.pt", payload)
    trainer = tiny_trainer(None, 2)
    loads_or_says_why(trainer.load, path, CheckpointError)


@FEW
@given(data=st.data())
def test_an_agent_takes_weights_or_names_the_file(data: st.DataObject, tmp_path: Path) -> None:
    config = TD3BCConfig(network_width=4, network_depth=1)
    agent = TD3BC(config, Dims(3, 1), generators_for([0], "init"), torch.device("cpu"))
    whole = {"agent": {"networks": dict(agent.state_dict())}, "step": 1}
    path = checkpoint.save(tmp_path / "agent.pt", spoiled(data.draw, whole))
    loads_or_says_why(lambda file: load_weights(agent, file), path, CheckpointError)

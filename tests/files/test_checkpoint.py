"""Checkpoints appear whole or not at all, and reading one never executes anything."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from synther.files import checkpoint


def test_what_is_saved_is_loaded_and_no_other_file_stays(tmp_path: Path) -> None:
    payload = {"step": 3, "nested": {"w": torch.arange(4.0)}, "names": ["a", "b"], "none": None}
    checkpoint.save(tmp_path / "deep" / "model-3.pt", payload)
    loaded = checkpoint.load(tmp_path / "deep" / "model-3.pt")
    assert loaded["step"] == 3
    assert loaded["names"] == ["a", "b"]
    assert torch.equal(loaded["nested"]["w"], payload["nested"]["w"])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model-3.pt"]


def test_a_failing_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model-1.pt"
    checkpoint.save(path, {"step": 1})

    class Unpicklable:
        def __reduce__(self) -> str:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, {"step": 2, "broken": Unpicklable()})
    assert checkpoint.load(path) == {"step": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["model-1.pt"]


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = checkpoint.save(tmp_path / "model-1.pt", {"w": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(checkpoint.CheckpointError, match=r"model-1\.pt"):
        checkpoint.load(path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(marker),)

    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    torch.save({"model": Bomb()}, tmp_path / "zipped.pt")
    for name in ("plain.pt", "zipped.pt"):
        with pytest.raises(checkpoint.CheckpointError, match=name):
            checkpoint.load(tmp_path / name)
    assert not marker.exists()


def test_a_missing_file_and_a_file_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(checkpoint.CheckpointError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "model-1.pt")
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    with pytest.raises(checkpoint.CheckpointError, match="holds a Tensor, expected a dict"):
        checkpoint.load(tmp_path / "tensor.pt")


def test_latest_is_the_highest_step_not_the_last_name(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path, "model") is None
    for step in (1000, 200, 30):
        checkpoint.save(tmp_path / f"model-{step}.pt", {"step": step})
    (tmp_path / "model-best.pt").touch()
    (tmp_path / ".model-9999.pt.1.partial").touch()
    assert list(checkpoint.steps(tmp_path, "model")) == [30, 200, 1000]
    assert checkpoint.latest(tmp_path, "model") == tmp_path / "model-1000.pt"
    assert checkpoint.latest(tmp_path / "nowhere", "model") is None


def test_a_network_may_have_a_single_number_as_a_weight() -> None:
    layer = torch.nn.BatchNorm1d(2)  # its count of batches has no dimension
    before = checkpoint.fingerprint(layer)
    layer.num_batches_tracked += 1
    assert checkpoint.fingerprint(layer) != before


def test_a_fingerprint_is_that_of_names_and_bits() -> None:
    layer = torch.nn.Linear(3, 2)
    twin = torch.nn.Linear(3, 2)
    twin.load_state_dict(layer.state_dict())
    found = checkpoint.fingerprint(layer)
    assert len(found) == 16
    assert checkpoint.fingerprint(twin) == found
    assert checkpoint.fingerprint(torch.nn.Sequential(layer)) != found
    with torch.no_grad():
        twin.bias[1] = torch.nextafter(twin.bias[1], torch.tensor(torch.inf))
    assert checkpoint.fingerprint(twin) != found

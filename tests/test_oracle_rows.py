"""The oracle of the benchmarks gives what the simulator says, and says that it did."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from synther.datasets import load_dataset
from synther.transitions import Transitions

pytest.importorskip("mujoco")
SCRIPT = Path(__file__).parents[1] / "benchmarks/oracle_rows.py"
SPEC = importlib.util.spec_from_file_location("oracle_rows", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
ORACLE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ORACLE)


def test_it_puts_the_simulators_answers_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = load_dataset("hopper-demo-v0").subset(slice(300))
    wrong = Transitions(
        real.observations, real.actions, real.rewards + 1, real.next_observations + 0.1,
        1 - real.terminals, metadata={"env_id": "Hopper-v2"},
    )  # fmt: skip
    path, result = wrong.save(tmp_path / "wrong.npz"), tmp_path / "oracle.npz"
    words = ["oracle_rows.py", str(path), str(result), "--fields", "rewards", "terminals"]
    monkeypatch.setattr(sys, "argv", words)
    ORACLE.main()
    rows = Transitions.load(result)
    assert "finding causes only" in capsys.readouterr().out
    assert rows.metadata["source"].startswith("oracle")
    assert rows.metadata["replaced"] == ["rewards", "terminals"]
    # Velocities at their bound of 10 do not show the state; all other rows are there.
    shown = (np.abs(real.observations[:, 5:]) < 10).all(axis=1)
    assert len(rows) == shown.sum()
    np.testing.assert_allclose(rows.rewards, real.rewards[shown], atol=1e-4)
    assert np.array_equal(rows.terminals, real.terminals[shown])
    assert np.array_equal(rows.next_observations, wrong.next_observations[shown])

"""Every configuration file trains: 200 updates on a stand-in for its data set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synther.corl.shared import runner
from synther.corl.shared.parsing import parse
from synther.transitions import Transitions
from tests.corl.helpers import ALGORITHMS
from tests.corl.test_config import ROWS, YAML_FOLDER
from tests.data import random_transitions

WIDTHS = {
    "halfcheetah": (17, 6), "hopper": (11, 3), "walker2d": (17, 6), "maze2d": (4, 2),
    "antmaze": (29, 8),
}  # fmt: skip


def stand_in(name: str) -> Transitions:
    observation_dim, action_dim = WIDTHS[name.split("-")[0]]
    made = random_transitions(500, observation_dim, action_dim)
    return Transitions(**made.arrays(), metadata={"env_id": name})


class NoSimulator:
    """Asks for actions once and says that every episode returned 1."""

    def __init__(self, env_id: str, episodes: int, num_seeds: int, **_: Any) -> None:
        self.observation_dim, self.action_dim = WIDTHS[env_id.split("-")[0]]
        self.shape = (num_seeds, episodes)

    def play(self, policy: Any, seeds: list[int]) -> tuple[np.ndarray, np.ndarray]:
        actions = policy(np.zeros((*self.shape, self.observation_dim), np.float32))
        assert actions.shape == (*self.shape, self.action_dim)
        assert np.isfinite(actions).all()
        return np.ones(self.shape), np.ones(self.shape, int)

    def close(self) -> None: ...


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=[row[1] for row in ROWS])
def test_a_file_trains(row: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    algorithm, file, dataset, _ = row
    monkeypatch.setattr(runner, "load_dataset", stand_in)
    monkeypatch.setattr(runner, "Evaluator", NoSimulator)
    config_class, build, _ = ALGORITHMS[algorithm]
    words = ["--config", str(YAML_FOLDER / file), "--max_timesteps", "200", "--batch_size", "16"]
    config = parse(config_class, [*words, "--device", "cpu", "--eval_workers", "0"])
    result = runner.run(config, build)
    assert (result["env"], result["steps"]) == (dataset, 200)
    assert result["last_return"] == [1.0]
    assert result["last_score"] is not None


def test_the_table_is_whole() -> None:
    assert len(ROWS) == 96
    assert {row[0] for row in ROWS} == set(ALGORITHMS)

"""The recipe end to end, without a renderer; twice, to see that nothing is done again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synther.pixels import recipe, stages
from synther.pixels.config import PixelConfig, RecipeConfig
from synther.runs.folder import RunFolderError
from tests.pixels.helpers import config, data_set

SMALL = (
    "Trainer.train_num_steps = 4", "Trainer.small_batch_size = 8",
    "ResidualMLPDenoiser.mlp_width = 16", "ResidualMLPDenoiser.num_layers = 1",
    "SimpleDiffusionGenerator.num_sample_steps = 2",
)  # fmt: skip


class Interrupted(Exception):
    pass


def settings_of(tmp_path: Path) -> PixelConfig:
    steps = RecipeConfig(
        seeds=(0,), gin_params=SMALL, num_samples=50, finetune_timesteps=4, mix=0.5
    )
    return config(root=str(tmp_path), folder=str(tmp_path / "run"), eval_freq=0, recipe=steps)


def test_every_step_runs_once_and_the_table_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    evaluated: list[str] = []

    def evaluation(settings: PixelConfig, seen: Any, action_dim: int) -> Any:
        def evaluate(agent: Any) -> Any:
            evaluated.append(Path(str(settings.folder)).name)
            if len(evaluated) == 3 and not interrupted:
                interrupted.append(True)
                evaluated.pop()
                raise Interrupted
            return np.array([len(evaluated), len(evaluated) + 1.0])

        return evaluate

    interrupted: list[bool] = []
    monkeypatch.setattr(stages, "evaluation", evaluation)
    data_set(tmp_path)
    with pytest.raises(Interrupted):
        recipe.run_recipe(settings_of(tmp_path))
    partly = (tmp_path / "run" / "results.md").read_text()
    assert "| 0 | 1.5 | 2.5 |  |  |" in partly
    results = recipe.run_recipe(settings_of(tmp_path))
    assert evaluated == ["agent", "real", "synthetic", "mixed"]
    assert [results["seeds"][0][stage] for stage in recipe.STAGES] == [1.5, 2.5, 3.5, 4.5]
    assert 0 < results["seeds"][0]["fidelity"]["synthetic_marginal"] < 1
    assert recipe.run_recipe(settings_of(tmp_path)) == results
    assert len(evaluated) == 4
    other = settings_of(tmp_path)
    other = replace(other, recipe=replace(other.recipe, num_samples=60))
    with pytest.raises(RunFolderError, match=r"recipe\.num_samples: then 50, now 60"):
        recipe.run_recipe(other)
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results


def test_the_table_has_means_and_standard_errors(tmp_path: Path) -> None:
    rows = [{"seed": 0, "before": 1.0, "real": 5.0}, {"seed": 1, "before": 4.0}]
    results = recipe.write_results(tmp_path, rows)
    assert results["mean"] == {"before": 2.5, "real": 5.0}
    assert results["standard_error"] == {"before": pytest.approx(1.5)}
    last = (tmp_path / "results.md").read_text().splitlines()[-1]
    assert last.startswith("| mean | 2.5 +- 1.5 | 5.0 |")

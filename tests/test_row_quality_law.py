"""The noisy part of the study of row quality: what it says of rows of the law, and of others."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def law(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import row_quality_law

    yield row_quality_law
    for name in ("row_quality_law", "row_quality", "offline_learning", "known_law"):
        sys.modules.pop(name, None)


@pytest.fixture
def rows(law: Any) -> tuple[Any, Any]:
    return law.known_law.collect(20_000, 1), law.known_law.collect(20_000, 0)


def test_rows_of_the_law_keep_noise_and_rates(law: Any, rows: tuple[Any, Any]) -> None:
    found = law.measured(*rows)
    assert found["noise_is_kept"]
    assert found["rates_are_kept"]
    assert found["inconsistent_flags"] == 0


def test_lost_noise_wrong_rates_and_wrong_flags_are_seen(law: Any, rows: tuple[Any, Any]) -> None:
    synthetic, real = rows
    mean = law.known_law.conditional_mean(synthetic.observations, synthetic.actions)
    quiet = replace(synthetic, rewards=(0.9 * synthetic.rewards + 0.1 * mean.rewards).astype("f4"))
    assert not law.measured(quiet, real)["noise_is_kept"]
    never = replace(synthetic, terminals=np.zeros_like(synthetic.terminals))
    assert not law.measured(never, real)["rates_are_kept"]
    inside = replace(synthetic, actions=0.99 * synthetic.actions)
    assert not law.measured(inside, real)["rates_are_kept"]
    turned = synthetic.observations.copy()
    turned[:100, 3] = 1 - turned[:100, 3]
    assert law.measured(replace(synthetic, observations=turned), real)["inconsistent_flags"] > 0


def test_an_arm_is_trained_sampled_and_written_once(
    law: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(law, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(law, "NUM_ROWS", 500)
    seen = []

    def sampled(folder: Path, rows: Any, data: str) -> None:
        seen.append(rows.model)
        law.known_law.collect(400, 2).save(folder / rows.model / f"{rows.consistency}.npz")

    monkeypatch.setattr(law, "sampled", sampled)
    for each in (law.study()[:2]) * 2:
        (tmp_path / each.model).mkdir(exist_ok=True)
        law.do(tmp_path, each)
    assert seen == ["known-law-2023-demo-s0"] * 2
    assert law.table().row_count == 2

"""Real rows pass for good samples, every time: the verdict raises no false alarm."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synther.datasets import load_dataset
from synther.diffusion.fidelity.verdict import judge
from synther.diffusion.successors import fit_ensemble
from synther.transitions import Transitions

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TRIALS, HELD_OUT, SAMPLES = 200, 4_000, 5_000


def noisy_rows(monkeypatch: pytest.MonkeyPatch) -> Transitions:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import known_law

    sys.modules.pop("known_law")
    return known_law.collect(40_000, seed=1)


def subset(data: Transitions, chosen: NDArray[np.int64]) -> Transitions:
    return data.subset(np.sort(chosen))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hopper-demo-v0", "known law"])
def test_real_rows_pass_every_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """26 000 rows train the regressions; held-out rows and samples are drawn from the others."""
    data = load_dataset(name) if name != "known law" else noisy_rows(monkeypatch)
    order = np.random.default_rng(0).permutation(len(data))
    training, pool = subset(data, order[:26_000]), order[26_000:]
    law = fit_ensemble(training, seed=0)
    reasons = {}
    for trial in range(TRIALS):
        drawn = np.random.default_rng(trial).permutation(pool)
        held_out = subset(data, drawn[:HELD_OUT])
        samples = subset(data, drawn[HELD_OUT : HELD_OUT + SAMPLES])
        verdict = judge(training, held_out, samples, terminals=True, successors=law, seed=trial)
        if not verdict.trusted:
            reasons[trial] = verdict.reasons
    assert not reasons

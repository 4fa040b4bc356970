"""The report must see copies, broken pairs of columns and noise, each in its own numbers."""

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.datasets import load_dataset
from synther.diffusion.fidelity.assessment import assess
from synther.diffusion.fidelity.held_out import RealRows
from synther.diffusion.fidelity.report import FidelityReport
from synther.transitions import Transitions

DATA = load_dataset("hopper-demo-v0")
PARTS = np.split(np.random.default_rng(0).permutation(len(DATA))[:9000], [6000, 7500])
TRAINING, HELD_OUT, FRESH = (DATA.subset(part) for part in PARTS)


def changed(rows: Transitions, **arrays: np.ndarray) -> Transitions:
    return Transitions.from_arrays({**rows.arrays(), **arrays})


@pytest.fixture(scope="module")
def report() -> FidelityReport:
    rng = np.random.default_rng(1)
    spread = FRESH.next_observations.std(axis=0)
    samples = {
        "real": FRESH,
        "copied": TRAINING.subset(slice(0, 1500)),
        "shuffled": changed(FRESH, next_observations=rng.permutation(FRESH.next_observations)),
        "noisy": changed(
            FRESH,
            next_observations=FRESH.next_observations
            + 0.2 * spread * rng.normal(size=FRESH.next_observations.shape),
        ),
    }
    real = RealRows(TRAINING, HELD_OUT, True, "a test")
    return assess(real, samples, env_id="Hopper-v2", max_rows=400)[0]


def test_real_rows_reach_the_ceiling(report: FidelityReport) -> None:
    ceiling, real = report.comparisons["held_out"], report.comparisons["real"]
    assert real.marginal == pytest.approx(ceiling.marginal, abs=0.01)
    assert real.correlation == pytest.approx(ceiling.correlation, abs=0.01)
    for each in (ceiling, real):
        assert each.dynamics is not None
        assert each.dynamics.next_observation < 1e-8
        assert each.novelty is not None
        assert each.novelty.nearer == pytest.approx(0.5, abs=0.08)
        assert not each.novelty.memorised


def test_copies_are_reported_as_memorised(report: FidelityReport) -> None:
    copied = report.comparisons["copied"].novelty
    assert copied is not None
    assert copied.memorised
    assert copied.median == 0
    assert copied.close == 1
    assert [note for note in report.notes() if note.startswith("copied")]
    assert not [note for note in report.notes() if note.startswith(("real", "noisy"))]


def test_shuffling_costs_correlation_and_dynamics_but_no_marginal(report: FidelityReport) -> None:
    real, shuffled = report.comparisons["real"], report.comparisons["shuffled"]
    assert shuffled.columns == real.columns
    assert shuffled.correlation < real.correlation - 0.02
    assert shuffled.rank_correlation < real.rank_correlation - 0.02
    assert shuffled.dynamics is not None
    assert shuffled.dynamics.next_observation > 0.5


def test_noise_raises_the_dynamics_error_by_its_variance(report: FidelityReport) -> None:
    noisy = report.comparisons["noisy"].dynamics
    assert noisy is not None
    assert noisy.next_observation == pytest.approx(0.04, rel=0.15)
    assert noisy.reward < 1e-8


def test_samples_cannot_take_the_place_of_the_held_out_rows() -> None:
    real = RealRows(TRAINING, HELD_OUT, True, "a test")
    with pytest.raises(ValueError, match="'held_out' is that of the held-out rows"):
        assess(real, {"held_out": TRAINING}, env_id=None)


def test_rows_that_the_model_may_have_seen_are_measured_against_all_others() -> None:
    """A copy of a held-out row is one of a training row then; a real row is not its own."""
    real = RealRows(TRAINING, HELD_OUT, False, "a test")
    samples = {"copied": HELD_OUT.subset(slice(0, 300))}
    report, measures = assess(real, samples, env_id=None, max_rows=200)
    copied, unseen = report.comparisons["copied"].novelty, report.comparisons["held_out"].novelty
    assert copied is not None
    assert copied.memorised
    assert unseen is not None
    assert unseen.median > 0
    assert len(measures["copied"].distances) == 200
    assert np.isnan(measures["copied"].errors).all()
    assert report.notes()[0] == (
        "dynamics: not defined here: the data do not name their environment"
    )

"""The verdict: real rows pass, and each planted fault is named from a stated strength on."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from synther.datasets import load_dataset
from synther.diffusion.fidelity import two_sample
from synther.diffusion.fidelity.findings import Finding
from synther.diffusion.fidelity.verdict import Verdict, judge
from synther.transitions import Transitions
from tests.diffusion.fidelity.known_law import ExactLaw, known_law

pytestmark = pytest.mark.arithmetic
TRAINING, HELD_OUT, FRESH = known_law(6000, 1), known_law(2000, 2), known_law(4000, 3)
RNG = np.random.default_rng(0)


def faults(synthetic: Transitions) -> set[str]:
    verdict = judge(TRAINING, HELD_OUT, synthetic, terminals=True, successors=ExactLaw())
    assert verdict.trusted == (not verdict.reasons)
    return {finding.name for finding in verdict.findings if not finding.passed}


def changed(**arrays: Any) -> Transitions:
    return replace(FRESH, **arrays)


def test_real_rows_are_trusted() -> None:
    verdict = judge(TRAINING, HELD_OUT, FRESH, terminals=True, successors=ExactLaw())
    assert verdict.trusted, verdict
    assert str(verdict).startswith("the samples look like held-out real rows: marginal 0.9")
    assert verdict.numbers["marginal"] == pytest.approx(verdict.numbers["real_marginal"], abs=0.02)
    assert verdict.numbers["nearest_row"] == pytest.approx(
        verdict.numbers["real_nearest_row"], rel=0.2
    )
    assert verdict.numbers["conditional_ratio"] == pytest.approx(1, abs=0.1)
    assert verdict.columns["rewards"]["noise"] == pytest.approx(1, abs=0.1)
    assert verdict.columns["actions[0]"].keys() == {"ks"}


def with_wrong_differences(gain: float) -> Transitions:
    """Next observations that follow a law of the right direction and the wrong size."""
    difference = FRESH.next_observations - FRESH.observations
    return changed(next_observations=FRESH.observations + gain * difference)


def with_copies(share: float) -> Transitions:
    count = int(share * len(FRESH))
    parts = [TRAINING.subset(slice(0, count)), FRESH.subset(slice(count, None))]
    return Transitions.concatenate(parts)


def with_fractional_flags(share: float) -> Transitions:
    observations = FRESH.observations.copy()
    observations[: int(share * len(FRESH)), 2] = 0.4
    return changed(observations=observations)


def with_a_loose_constant(spread: float) -> Transitions:
    following = FRESH.next_observations.copy()
    following[:, 3] += spread * RNG.normal(size=len(following))
    return changed(next_observations=following)


def with_terminals_at(ratio: float) -> Transitions:
    rate = ratio * FRESH.terminals.mean()
    return changed(terminals=np.arange(len(FRESH)) < rate * len(FRESH))


def with_actions_at_a_bound(share: float) -> Transitions:
    actions = FRESH.actions.copy()
    actions[: int(share * len(actions)), 1] = 1
    return changed(actions=actions)


def with_noise(noise: float) -> Transitions:
    return known_law(4000, 3, noise=noise)


def with_terminals_of_others(share: float) -> Transitions:
    terminals = FRESH.terminals.copy()
    count = int(share * len(terminals))
    terminals[:count] = terminals[RNG.permutation(count)]
    return changed(terminals=terminals)


def of_mode_share(share: float) -> Transitions:
    return known_law(4000, 3, mode_share=share)


def shuffled(share: float) -> Transitions:
    following = FRESH.next_observations.copy()
    count = int(share * len(following))
    following[:count] = following[RNG.permutation(count)]
    return changed(next_observations=following)


PLANTED: list[tuple[str, Callable[[float], Transitions], list[float]]] = [
    ("conditional_error", with_wrong_differences, [0.0, 2.0]),
    ("conditional_error", shuffled, [0.4, 1.0]),
    ("conditional_noise", with_noise, [0.0, 0.64, 0.7, 1.5]),
    ("improbable_flags", with_terminals_of_others, [0.2, 1.0]),
    ("worst_column", with_wrong_differences, [0.1, 3.0]),
    ("copies", with_copies, [0.01, 0.05, 0.5]),
    ("nearer_to_training", with_copies, [0.5]),
    ("unseen_values", with_fractional_flags, [0.01, 0.1, 1.0]),
    ("unseen_values", with_a_loose_constant, [1e-4, 1.0]),
    ("frequencies", with_terminals_at, [0.0, 0.3, 2.5]),
    ("atoms", with_actions_at_a_bound, [0.1, 0.5]),
    ("regions", of_mode_share, [0.0, 0.5]),
    ("two_sample", with_wrong_differences, [0.5, 3.0]),
    ("two_sample", shuffled, [1.0]),
    ("correlations", shuffled, [1.0]),
]


@pytest.mark.parametrize(
    ("name", "plant", "strength"),
    [(name, plant, strength) for name, plant, strengths in PLANTED for strength in strengths],
)
def test_each_fault_is_named(
    name: str,
    plant: Callable[[float], Transitions],
    strength: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name != "two_sample":  # the classifier takes most of the time of a verdict
        monkeypatch.setattr(two_sample, "UPDATES", 10)
    assert name in faults(plant(strength))


def test_samples_that_are_one_row_have_lost_their_noise() -> None:
    one = FRESH.subset(np.zeros(len(FRESH), int))
    verdict = judge(TRAINING, HELD_OUT, one, terminals=True, successors=ExactLaw())
    assert {"conditional_noise", "two_sample"} <= faults(one)
    assert verdict.columns["rewards"]["noise"] == 0
    assert verdict.columns["rewards"]["noise_error"] == 0
    assert "correlation" not in verdict.numbers, "constant columns have none"
    json.dumps(verdict.to_plain(), allow_nan=False)
    assert "marginal 0." in str(verdict)


def test_a_ratio_that_no_column_has_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_sample, "UPDATES", 10)
    still = [replace(each, next_observations=each.observations, rewards=0 * each.rewards)
             for each in (TRAINING, HELD_OUT, FRESH)]  # fmt: skip
    verdict = judge(*still, terminals=True, successors=ExactLaw())
    assert "conditional_ratio" not in verdict.numbers
    json.dumps(verdict.to_plain(), allow_nan=False)


def test_rows_that_are_all_the_same_are_judged_by_what_they_are() -> None:
    same = FRESH.subset(np.zeros(3000, int))
    parts = same.subset(slice(2000)), same.subset(slice(2000, None))
    for synthetic, reasons in ((same, set()), (FRESH, {"unseen_values"})):
        verdict = judge(*parts, synthetic, terminals=True, successors=ExactLaw())
        names = {each.name for each in verdict.findings if not each.passed}
        assert reasons <= names if reasons else not names, verdict
        assert "two_sample" not in verdict.numbers
        json.dumps(verdict.to_plain(), allow_nan=False)


def test_a_reason_is_a_plain_sentence_and_the_table_shows_every_finding() -> None:
    verdict = judge(TRAINING, HELD_OUT, with_copies(0.5), terminals=True)
    (copies, share) = verdict.reasons
    assert copies.startswith("50.")
    assert copies.endswith("% of them are copies of training rows, or nearly so")
    assert share.startswith("they keep to the training rows: 5")
    assert "NOT to be trusted (50." in str(verdict)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(verdict.table("samples.npz"))
    text = console.export_text()
    assert "Verdict on samples.npz: NOT to be trusted" in text
    assert text.count("beyond") == 2
    for finding in verdict.findings:
        assert finding.name.replace("_", " ") in text


def test_a_verdict_survives_json_and_an_earlier_one_is_read() -> None:
    verdict = judge(TRAINING, HELD_OUT, with_copies(0.05), terminals=True)
    plain = json.loads(json.dumps(verdict.to_plain()))
    assert Verdict.from_plain(plain) == verdict
    assert verdict.columns["rewards"].keys() == {"ks"}
    assert (plain["trusted"], plain["reasons"]) == (False, list(verdict.reasons))
    earlier = Verdict.from_plain({"numbers": {"marginal": 0.5}, "reasons": ["why"]})
    assert earlier.reasons == ("why",)
    assert Verdict.from_plain({"numbers": {}, "reasons": []}).trusted


def test_limits_are_kept_on_both_sides() -> None:
    inside = Finding("x", figure=0.5, expected=0.5, error=0.1, low=0.4, high=0.6, fault="why")
    assert inside.passed
    assert not replace(inside, figure=0.39).passed
    assert not replace(inside, figure=0.61).passed
    assert not replace(inside, figure=float("nan")).passed
    assert Verdict().trusted
    assert Verdict((replace(inside, figure=1),)).reasons == ("why",)


def test_rows_that_may_have_been_seen_leave_out_what_they_cannot_tell() -> None:
    verdict = judge(TRAINING, HELD_OUT, FRESH, terminals=True, unseen=False)
    assert "nearer_to_training" not in [finding.name for finding in verdict.findings]
    assert verdict.trusted


def test_held_out_rows_that_were_trained_on_as_well_are_said() -> None:
    """Half of the held-out rows are copies of training rows, as where a replay was given twice."""
    held_out = Transitions.concatenate([HELD_OUT, TRAINING.subset(slice(len(HELD_OUT)))])
    verdict = judge(TRAINING, held_out, FRESH, terminals=True)
    assert verdict.numbers["also_trained_on"] == 0.5
    assert "; 50% of the held-out rows were trained on as well" in str(verdict)
    assert "trained on as well" in str(Verdict.from_plain(verdict.to_plain()))
    for rows, unseen in ((HELD_OUT, True), (held_out, False)):
        other = judge(TRAINING, rows, FRESH, terminals=True, unseen=unseen)
        assert "also_trained_on" not in other.numbers
        assert "trained on as well" not in str(other)


def passes(data: Transitions, seed: int, sizes: tuple[int, int, int]) -> Verdict:
    """The verdict on real rows in place of samples, after a random split."""
    parts = np.split(np.random.default_rng(seed).permutation(len(data)), np.cumsum(sizes))
    training, held_out, fresh = (data.subset(part) for part in parts[:3])
    successors = ExactLaw() if data.observation_dim == 4 else None
    return judge(training, held_out, fresh, terminals=True, successors=successors, seed=seed)


SPLITS = [
    (lambda: load_dataset("hopper-demo-v0"), (15_000, 3_000, 8_000)),
    (lambda: known_law(12_000, 5), (5_000, 2_000, 5_000)),
    (lambda: known_law(6_000, 6), (150, 50, 5_000)),
]


@pytest.mark.parametrize(("load", "sizes"), SPLITS)
def test_real_rows_pass(load: Callable[[], Transitions], sizes: tuple[int, int, int]) -> None:
    data = load()
    for seed in range(2):
        assert not (verdict := passes(data, seed, sizes)).reasons, verdict


@pytest.mark.slow
@pytest.mark.parametrize(("load", "sizes"), SPLITS)
def test_real_rows_pass_200_times_of_200(
    load: Callable[[], Transitions], sizes: tuple[int, int, int]
) -> None:
    data = load()
    verdicts = [passes(data, seed, sizes) for seed in range(1000, 1200)]
    assert [verdict.reasons for verdict in verdicts if not verdict.trusted] == []

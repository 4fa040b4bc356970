"""What the results of ``when_does_it_help.py`` say: gains, their intervals, and words."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from offline_learning import REPOSITORY
from row_quality_results import difference
from scipy import stats

RESULTS = REPOSITORY / "benchmarks/results/when_does_it_help"
LAST = 3
"""Evaluations that a score is the mean of."""
FLAT_POINTS = 1.0
"""A curve that gains less than this between its last evaluations and those before is flat."""


def trend(curves: Sequence[NDArray[np.float64]]) -> str:
    """How learning curves ``[E, S]`` end: ``flat``, ``rising``, ``falling``, or ``unclear``, where
    they move by a point or more and the seeds do not agree whether they do."""
    ends = [c[-LAST:].mean(axis=0) - c[-2 * LAST : -LAST].mean(axis=0) for c in curves]
    gains = np.concatenate(ends)
    if abs(gains.mean()) < FLAT_POINTS:
        return "flat"
    interval = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    if interval.low <= 0 <= interval.high:
        return "unclear"
    return "rising" if gains.mean() > 0 else "falling"


def is_flat(curves: Sequence[NDArray[np.float64]]) -> bool:
    """Whether they count as flat: they gain less than a point, or no more than chance."""
    return trend(curves) in ("flat", "unclear")


def verdict(low: float, high: float) -> str:
    """The pre-registered word for an interval of the gain."""
    return "help" if low > 0 else "harm" if high < 0 else "neither"


def are_apart(replicates: Sequence[Sequence[Sequence[float]]]) -> bool:
    """Whether the gains of any two replicates, each the scores on samples and on real rows, differ
    by more than their seeds explain: the interval of the difference does not hold 0 (Welch's t for
    four means; 95 % of all the pairs together, by Bonferroni). Where they do, an interval over the
    seeds is too narrow for another choice of rows and another model."""
    pairs = [*itertools.combinations(replicates, 2)]
    return any(_differ(*one, *other, level=0.05 / len(pairs)) for one, other in pairs)


def _differ(
    new: Sequence[float],
    real: Sequence[float],
    other_new: Sequence[float],
    other_real: Sequence[float],
    level: float,
) -> bool:
    groups = [np.array(scores) for scores in (new, real, other_new, other_real)]
    errors = np.array([scores.var(ddof=1) / scores.size for scores in groups])
    gap = abs(np.dot([1, -1, -1, 1], [scores.mean() for scores in groups]))
    if not errors.sum():
        return bool(gap > 0)
    freedoms = np.array([scores.size - 1 for scores in groups])
    freedom = errors.sum() ** 2 / (errors**2 / freedoms).sum()
    return bool(gap > stats.t.ppf(1 - level / 2, freedom) * np.sqrt(errors.sum()))


def over_replicates(gains: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean gain in which each replicate is one number (Student's t), so
    that it holds the choice of the rows and the model; None of fewer than three."""
    if len(gains) < 3:
        return None
    interval = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def gain_of(pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """The mean gain of pairs of scores on samples and on real rows, its interval over all agents,
    and its word. The numbers are as they are: rounded ones could contradict the word."""
    gain, low, high = difference(*map(np.concatenate, zip(*pairs, strict=True)))
    if np.isnan([low, high]).any():  # every seed has one and the same score
        low = high = gain
    return {"gain": gain, "low": low, "high": high, "verdict": verdict(low, high)}


def cells() -> list[dict[str, Any]]:
    """The gain of each cell whose results are there, with its interval and its features; under
    ``at_best`` what it would be if the score of an agent were its best evaluation."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))
               if not path.name.startswith("features-")]  # fmt: skip
    groups: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for each in results:
        key = (each["data"], each["share"], each["algorithm"], each["kind"])
        groups.setdefault(key, {})[each["replicate"]] = each
    found = []
    for (data, share, algorithm, kind), new in groups.items():
        real = groups.get((data, share, algorithm, "real"), {})
        both = sorted(new.keys() & real.keys())  # a replicate counts with both of its sides
        if kind == "real" or not both:
            continue
        pairs = [(new[number]["scores"], real[number]["scores"]) for number in both]
        best = [(np.max(new[number]["curve"], axis=0), np.max(real[number]["curve"], axis=0))
                for number in both]  # fmt: skip
        features = json.loads((RESULTS / f"features-{data}-{share}pct-r{both[0]}.json").read_text())
        gains = [float(np.mean(on_samples) - np.mean(on_real)) for on_samples, on_real in pairs]
        curves = [np.array(real[number]["curve"]) for number in both]
        behaviour = features.pop("behaviour")
        found.append({
            "data": data, "share": share, "algorithm": algorithm, "kind": kind,
            **gain_of(pairs), "at_best": gain_of(best),
            "real": float(np.mean([on_real for _, on_real in pairs])),
            "behaviour": behaviour["score"], "seeds": sum(len(scores) for scores, _ in pairs),
            "replicates": len(pairs), "gains": gains, "apart": are_apart(pairs),
            "over_replicates": over_replicates(gains),
            "flat": is_flat(curves), "trend": trend(curves),
            "features": features,
        })  # fmt: skip
    return found

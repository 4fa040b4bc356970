"""Aggregate metrics summarise tasks and seeds, with bootstrap confidence intervals.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv
2108.13264): interquartile mean, optimality gap, probability of improvement, and intervals by the
percentile bootstrap that draws seeds anew within each task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 50_000
"""So many that the end of an interval does not depend on the draws where few values are possible:
four runs against four have 17 probabilities of improvement."""
BATCH = 5_000
"""Resamples at a time, which bounds the memory."""
CONFIDENCE = 0.95
OPTIMAL_SCORE = 100.0
"""Normalised score of the reference expert."""

Scores = Sequence[NDArray[np.float64]]
"""For each task the scores of its seeds ``[S]``; tasks may have different numbers of seeds."""
Statistic = Callable[[Scores], NDArray[np.float64]]
"""It takes scores ``[..., S]`` for each task and reduces their last axis: ``[...]``."""


@dataclass(frozen=True)
class Estimate:
    """A number and its confidence interval, which is None where a task has a single seed."""

    value: float
    interval: tuple[float, float] | None


def mean_and_error(values: ArrayLike) -> tuple[float, float | None]:
    """Mean and standard error ``std / sqrt(n)``, std with Bessel's correction; None for n = 1."""
    array = np.asarray(values, np.float64)
    error = float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else None
    return float(array.mean()), error


def mean(scores: Scores) -> NDArray[np.float64]:
    """Mean over tasks of the mean over seeds."""
    return np.mean([each.mean(axis=-1) for each in scores], axis=0)


def interquartile_mean(scores: Scores) -> NDArray[np.float64]:
    """Mean of the middle half of all scores, those of all tasks together."""
    together = np.concatenate(scores, axis=-1)
    return np.asarray(scipy.stats.trim_mean(together, 0.25, axis=-1))


def optimality_gap(scores: Scores) -> NDArray[np.float64]:
    """How far the scores are below the expert's on average; a score above it counts as equal."""
    return OPTIMAL_SCORE - mean([np.minimum(each, OPTIMAL_SCORE) for each in scores])


def improvement(scores: Scores) -> NDArray[np.float64]:
    """Probability that a run of X is better than one of Y, mean over tasks; a tie counts half.

    ``scores`` has the tasks of X first, then the same tasks of Y.
    """
    half = len(scores) // 2
    wins = []
    for better, worse in zip(scores[:half], scores[half:], strict=True):
        difference = better[..., :, None] - worse[..., None, :]
        wins.append((0.5 * (np.sign(difference) + 1)).mean(axis=(-2, -1)))
    return np.mean(wins, axis=0)


def estimate(statistic: Statistic, scores: Scores, seed: int = 0) -> Estimate:
    """The statistic of the scores, and where it lies when seeds are drawn anew.

    The interval is the percentile bootstrap's, stratified: each task's seeds are drawn from its
    own, with replacement.

    Args:
        statistic: one of those above.
        scores: for each task those of its seeds.
        seed: makes the draws; the same scores give the same interval.
    """
    value = float(statistic(scores))
    if min(len(each) for each in scores) < 2:
        return Estimate(value, None)
    found = scipy.stats.bootstrap(
        tuple(scores),
        lambda *samples, axis: statistic([np.moveaxis(each, axis, -1) for each in samples]),
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        batch=BATCH,
        random_state=np.random.default_rng(seed),  # called rng from scipy 1.15 on
    )
    low, high = (float(each) for each in found.confidence_interval)
    return Estimate(value, (low, high))

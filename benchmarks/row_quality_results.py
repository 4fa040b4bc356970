"""What the results of ``row_quality.py`` say: its words, a table, and measures against scores."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from offline_learning import COLLECTED, REPOSITORY, SHIPPED
from rich.table import Table
from scipy import stats

RESULTS = REPOSITORY / "benchmarks/results/row_quality"
ALGORITHMS = ("td3_bc", "iql")


def read_results() -> list[dict[str, Any]]:
    """All results that are there."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]


def difference(one: Iterable[float], other: Iterable[float]) -> tuple[float, float, float]:
    """The difference of two means and its 95 % interval (Welch's t)."""
    first, second = np.array([*one]), np.array([*other])
    interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return float(first.mean() - second.mean()), float(interval.low), float(interval.high)


def verdict(interval: tuple[float, float, float], *, than_real: bool) -> str:
    """The pre-registered words for a difference; see the module."""
    _, low, high = interval
    if than_real:
        return "worse" if high < 0 else "no worse"
    return "better" if low > 0 else "worse" if high < 0 else "neither"


def scores_by_arm(results: list[dict[str, Any]], algorithm: str) -> dict[str, list[float]]:
    """The scores of all seeds of all generators, by arm."""
    found: dict[str, list[float]] = {}
    for each in results:
        if each["algorithm"] == algorithm:
            found.setdefault(each["arm"], []).extend(each["scores"])
    return found


def by_generators(results: list[dict[str, Any]], algorithm: str, arm: str) -> list[float]:
    """The mean score of the agents of each generator."""
    return [float(np.mean(each["scores"])) for each in results
            if (each["algorithm"], each["arm"]) == (algorithm, arm)]  # fmt: skip


def table(results: list[dict[str, Any]]) -> Table:
    """Mean score of each arm, and what the differences to real and to today's rows are called."""
    shown = Table(title="Normalised score, mean of the last three evaluations, +- s.e. over seeds")
    for heading in ("algorithm", "rows", "score", "seeds", "than real", "than today's",
                    "over generators", "than today's, by generators"):  # fmt: skip
        shown.add_column(heading)
    for algorithm in ALGORITHMS:
        arms = scores_by_arm(results, algorithm)
        for arm, scores in arms.items():
            data = SHIPPED if arm.startswith(SHIPPED) else COLLECTED
            words = []
            for other, than_real in ((f"{data}-real", True), (f"{data}-2023-off-demo", False)):
                known = arms.get(other) if other != arm else None
                words.append(
                    verdict(difference(scores, known), than_real=than_real) if known else ""
                )
            means = by_generators(results, algorithm, arm)
            today = by_generators(results, algorithm, f"{data}-2023-off-demo")
            if len(means) > 1:
                words.append(f"{_mean(means)} of {len(means)}")
            if min(len(means), len(today)) > 1 and means != today:
                words.append("{:+.1f} ({:.1f} to {:.1f})".format(*difference(means, today)))
            shown.add_row(algorithm, arm, _mean(scores), str(len(scores)), *words)
    return shown


def _mean(scores: list[float]) -> str:
    spread = np.std(scores, ddof=1) / np.sqrt(len(scores))
    return f"{np.mean(scores):.1f} +- {spread:.1f}"


def rank_correlations(results: list[dict[str, Any]]) -> list[tuple[str, str, str, float, int]]:
    """How well each measure ranks the arms as the agents do: (data set, algorithm, measure,
    Spearman's rho, number of arms), of measures that are there for three arms or more."""
    found = []
    for data, algorithm in itertools.product((COLLECTED, SHIPPED), ALGORITHMS):
        of = [each for each in results if each["measures"] and each["algorithm"] == algorithm]
        of = [each for each in of if each["arm"].startswith(data)]
        numbers = [each["measures"]["synthetic"]["verdict"]["numbers"] for each in of]
        for name in sorted(set().union(*numbers)) if numbers else ():
            pairs = [
                (measured[name], np.mean(each["scores"]))
                for each, measured in zip(of, numbers, strict=True)
                if measured.get(name) is not None
            ]
            values = np.array(pairs)
            if len(pairs) > 2 and (np.ptp(values, axis=0) > 0).all():
                rho = float(stats.spearmanr(values[:, 0], values[:, 1]).statistic)
                found.append((data, algorithm, name, rho, len(pairs)))
    return found

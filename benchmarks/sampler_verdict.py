"""Which samplers are indistinguishable from the paper's, by what ``sampler_study.py`` recorded.

    python3 benchmarks/sampler_verdict.py

The criterion, in every metric and on every model: the setting's mean over its seeds is no worse
than the paper's mean over its own by more than the spread, which is the largest deviation of one of
the paper's seeds from their mean. Better is no difference that counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RECORDS = Path(__file__).parent / "results/sampler_study.jsonl"
BETTER = {
    "marginal": 1,
    "correlation": 1,
    "rank_correlation": 1,
    "wasserstein": -1,
    "dynamics_mse": -1,
    "dynamics_median": -1,
    "reward_mse": -1,
    "noise_position": -1,
    "noise_velocity": -1,
    "noise_temperature": -1,
    "noise_reward": -1,
}
"""Metric -> whether more (1) or less (-1) is better."""

Record = dict[str, Any]


def read(path: Path) -> list[Record]:
    """The records of a file, none where there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def paper_spread(records: Sequence[Record], model: str) -> dict[str, tuple[float, float]]:
    """Metric -> mean over the paper's seeds, and the largest deviation of one of them from it."""
    values = metrics_of(records, "paper", model)
    return {
        name: (float(each.mean()), float(np.abs(each - each.mean()).max()))
        for name, each in values.items()
    }


def metrics_of(records: Sequence[Record], setting: str, model: str) -> dict[str, np.ndarray]:
    """Metric -> values ``[seeds]``; metrics that are not defined for the model are left out."""
    chosen = [each for each in records if (each["setting"], each["model"]) == (setting, model)]
    table = {name: [each.get(name) for each in chosen] for name in BETTER}
    return {n: np.array(v, float) for n, v in table.items() if v and None not in v}


def excess(records: Sequence[Record], setting: str, model: str) -> Mapping[str, float]:
    """Metric -> by how many of the paper's spreads the setting is worse; 1 and less passes."""
    spread, own = paper_spread(records, model), metrics_of(records, setting, model)
    return {
        name: BETTER[name] * (mean - float(own[name].mean())) / deviation
        for name, (mean, deviation) in spread.items()
        if name in own
    }


def verdict(records: Sequence[Record]) -> str:
    """A line for each setting that was measured on every model, the cheapest first."""
    models = sorted({each["model"] for each in records})
    calls = {each["setting"]: each["calls"] for each in records}
    lines = ["| setting | calls | seeds | worse by (in spreads of `paper`) | |", "|" + "---|" * 5]
    for name in sorted(calls, key=lambda each: (calls[each], each)):
        worst = {}
        for model in models:
            for metric, value in excess(records, name, model).items():
                worst[f"{metric}, {model}"] = value
        seen = {each["model"] for each in records if each["setting"] == name}
        if seen != set(models):
            continue
        seeds = min(
            sum((each["setting"], each["model"]) == (name, model) for each in records)
            for model in models
        )
        where = max(worst, key=lambda each: worst[each])
        passed = "indistinguishable" if worst[where] <= 1 else ""
        lines.append(
            f"| {name} | {calls[name]} | {seeds} | {worst[where]:.2f} ({where}) | {passed} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("records", type=Path, nargs="?", default=RECORDS)
    print(verdict(read(parser.parse_args().records)))


if __name__ == "__main__":
    main()

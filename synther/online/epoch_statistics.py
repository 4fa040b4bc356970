"""An epoch's episodes and updates are summed up under the names that Spinning Up gives them.

A quantity X has four columns, ``AverageX``, ``StdX``, ``MaxX`` and ``MinX``, or ``X`` alone, where
only its mean is wanted (https://spinningup.openai.com, ``EpochLogger``; REDQ plots from the same).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from synther.learning.learner import Metrics

WITH_SPREAD = ("Q1Vals", "LogPi")
"""The metrics of updates whose extremes are worth a column."""


def statistics_of(name: str, values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """The four columns of ``name``: mean, standard deviation, largest and smallest value; NaN where
    there is no value."""
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        numbers = np.array([np.nan])
    return {
        f"Average{name}": float(numbers.mean()),
        f"Std{name}": float(numbers.std()),
        f"Max{name}": float(numbers.max()),
        f"Min{name}": float(numbers.min()),
    }


class MetricTotals:
    """Mean, spread and extremes of metrics, kept on their device: adding to them waits for nobody.

    ``rows`` is ``[5, M]``: count, sum, sum of squares, smallest and largest of each metric.

    Args:
        device: of the metrics.
    """

    names: list[str]
    rows: torch.Tensor

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.clear()

    def clear(self) -> None:
        self.names, self.rows = [], torch.empty(5, 0, dtype=torch.float64, device=self.device)

    def add(self, metrics: Metrics) -> None:
        """Add one value, ``[1]``, of each metric."""
        if not metrics:
            return
        values = torch.cat([each.reshape(1) for each in metrics.values()]).double()
        if not self.names:
            self.names = list(metrics)
            self.rows = values.new_zeros(5, len(values))
            self.rows[3], self.rows[4] = torch.inf, -torch.inf
        self.rows[:3] += torch.stack([torch.ones_like(values), values, values.square()])
        torch.minimum(self.rows[3], values, out=self.rows[3])
        torch.maximum(self.rows[4], values, out=self.rows[4])

    def take(self) -> dict[str, float]:
        """The columns of all values since the last call."""
        count, total, squares, least, most = self.rows.cpu().numpy()
        columns: dict[str, float] = {}
        for i, name in enumerate(self.names):
            mean = total[i] / count[i]
            if name in WITH_SPREAD:
                spread = np.sqrt(max(squares[i] / count[i] - mean**2, 0.0))
                columns |= {
                    f"Average{name}": mean, f"Std{name}": spread,
                    f"Max{name}": most[i], f"Min{name}": least[i],
                }  # fmt: skip
            else:
                columns[name] = mean
        self.clear()
        return {key: float(value) for key, value in columns.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"names": self.names, "rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.names, self.rows = list(state["names"]), state["rows"].to(self.device)

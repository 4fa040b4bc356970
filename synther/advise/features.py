"""A data set is described by the few numbers that decide which cells of the study are near it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from synther.datasets import with_action_bounds
from synther.datasets.episodes import episode_returns
from synther.ranges import Count, CountFrom0, NotNegative, Share
from synther.runs.runtime import resolve_device
from synther.transitions import TransitionError, TransitionLayout, Transitions
from synther.upsampling.config import resolve_config
from synther.upsampling.learning import Round, enough, learn

PILOT_ROWS = 10_000
PILOT = {
    "width": 256,
    "num_layers": 4,
    "steps": 800,
    "learning_rate": 1e-3,
    "consistency": "off",
}
"""The pilot is the demo's network after a tenth of its steps, without the last stage, which would
hide how far its successors are off (with it the error was 0.00 on a HalfCheetah replay). It is the
same for every data set, so that its figures can be compared, and says how hard the rows are to
learn, not how good a full model gets."""
RATE_FLOOR = 1e-4
"""Terminal rates below it count as this one; a task without terminals has this one."""


@dataclass(frozen=True)
class Features:
    """What is known of a data set; None where it cannot be known.

    Args:
        rows: transitions.
        columns: of a row without its terminal, ``2 O + A + 1``.
        episodes: whole episodes, where rows lie in their order.
        return_spread: ``std / (|mean| + std)`` of their returns, from 0 to 1.
        terminal_rate: the share of rows that end an episode truly.
        sparsity: the share of rows with the most frequent reward; near 1 where a reward is rare.
        pilot_error: the pilot model's conditional error, in units of a regression's held-out error.
        pilot_difference: how well a classifier tells the pilot's samples from real rows, 0.5 to 1.
    """

    rows: Count
    columns: Count
    episodes: CountFrom0 | None
    return_spread: Share | None
    terminal_rate: Share
    sparsity: Share
    pilot_error: NotNegative | None = None
    pilot_difference: Share | None = None

    def place(self) -> dict[str, float]:
        """Coordinates whose unit is a difference that matters: a factor of 3 in rows, 2 in columns,
        10 in the terminal rate and in the episodes, 2 in the pilot's error; 0.25 in shares. What
        is not known has none."""
        known = {
            "rows": math.log(self.rows, 3),
            "columns": math.log2(self.columns),
            "terminal_rate": math.log10(max(self.terminal_rate, RATE_FLOOR)),
            "sparsity": self.sparsity / 0.25,
        }
        if self.episodes:
            known["episodes"] = math.log10(self.episodes)
        if self.return_spread is not None:
            known["return_spread"] = self.return_spread / 0.25
        if self.pilot_error and math.isfinite(self.pilot_error):
            known["pilot_error"] = math.log2(self.pilot_error)
        if self.pilot_difference is not None:
            known["pilot_difference"] = self.pilot_difference / 0.25
        return known

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Features:
        return cls(**{field.name: plain.get(field.name) for field in fields(cls)})  # type: ignore[arg-type]


def describe(data: Transitions) -> Features:
    """The features that the rows themselves tell, without a pilot model."""
    returns = known_returns(data)
    spread = None
    if returns is not None and len(returns) > 1:
        deviation = float(returns.std())
        total = abs(float(returns.mean())) + deviation
        spread = deviation / total if total else 0.0
    _, counts = np.unique(data.rewards, return_counts=True)
    return Features(
        rows=len(data),
        columns=2 * data.observation_dim + data.action_dim + 1,
        episodes=None if returns is None else len(returns),
        return_spread=spread,
        terminal_rate=float(data.terminals.mean()),
        sparsity=float(counts.max() / len(data)),
    )


def known_returns(data: Transitions) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The returns of the whole episodes; None where rows do not lie in the order of episodes."""
    try:
        return episode_returns(data)
    except TransitionError:
        return None


def pilot_figures(data: Transitions, *, seed: int = 0, device: str = "auto") -> dict[str, Any]:
    """Train a small model on a part of the rows and judge it; about a minute on one CPU core.

    Returns:
        ``pilot_error`` and ``pilot_difference``, as far as they could be measured.

    Raises:
        TransitionError: too few rows for a model.
    """
    part = data
    if len(data) > PILOT_ROWS:
        # Not by split(), which also copies and checks all the rows that are left out here.
        part = data.subset(data.split_rows(PILOT_ROWS / len(data), seed)[1])
    part = with_action_bounds(enough(part))
    layout = TransitionLayout.of(part, terminals=bool(part.terminals.any()))
    where = resolve_device(device)
    config = resolve_config(PILOT, len(part), where)
    # Not by an Upsampler, which says that a pilot's samples are not to be trusted: nobody does.
    _, verdict = learn(part, layout, config, where, Round(seed, 0))
    names = {"conditional_ratio": "pilot_error", "two_sample": "pilot_difference"}
    numbers = verdict.numbers
    return {ours: float(numbers[name]) for name, ours in names.items() if name in numbers}

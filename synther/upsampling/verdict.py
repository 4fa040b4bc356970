"""One line on whether samples are to be trusted, and why not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from synther.diffusion.fidelity.distances import standardise
from synther.diffusion.fidelity.novelty import Novelty, nearest_distances, novelty
from synther.diffusion.fidelity.report import Fidelity, compare
from synther.transitions import TransitionLayout, Transitions

# What samples may lack of what real rows score against the same held-out rows.
MARGINAL_GAP = 0.05
WORST_COLUMN_GAP = 0.2
CORRELATION_GAP = 0.02
TRAINING_ROWS = 100_000
"""Of a larger data set, rows that similarities and nearest neighbours are taken from."""
NEIGHBOUR_ROWS = 2_000
"""Rows of each kind that look for their nearest training row."""


class FidelityWarning(UserWarning):
    """Samples that are not to be trusted; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """What was found, and what speaks against the samples.

    Args:
        numbers: ``marginal``, ``correlation``, ``worst_column``, ``terminal_rate`` and
            ``nearest_row`` (median distance to the nearest training row, in standard deviations) of
            the samples, and of real rows under ``real_`` and the same name.
        reasons: why they are not to be trusted; none where they are.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        return not self.reasons

    def __str__(self) -> str:
        shown = {"marginal": ".3f", "correlation": ".3f", "nearest_row": ".2f"}
        text = ", ".join(
            f"{name.replace('_', ' ')} {self.numbers[name]:{style}} "
            f"(real {self.numbers['real_' + name]:{style}})"
            for name, style in shown.items()
        )
        if self.trusted:
            return f"the samples look like held-out real rows: {text}"
        return f"the samples are NOT to be trusted ({'; '.join(self.reasons)}): {text}"


def judge(
    training: Transitions, held_out: Transitions, synthetic: Transitions, *, terminals: bool
) -> Verdict:
    """Compare samples with real rows that the model did not see, as training rows compare with
    them.

    Samples are not to be trusted where one of these holds:

    - their marginal similarity is more than 0.05 below the real one, or that of their worst column
      more than 0.2 below the same column's;
    - their correlation similarity (Pearson or Spearman) is more than 0.02 below the real one;
    - they are memorised, see :class:`synther.diffusion.fidelity.novelty.Novelty`, and as a whole
      nearer to the training rows than held-out rows are, beyond its error (3 standard errors);
    - terminals are less than half, or more than twice, as frequent as in the real rows, beyond the
      error of counting (3 standard errors).

    These are what a model that is too small, or was trained too short, fails by. They do not look
    at the dynamics, for which a simulator is needed: ``evaluate_samples.py`` has that.

    Args:
        training: rows that the model was trained on.
        held_out: rows that it did not see.
        synthetic: its samples.
        terminals: whether the model has a terminal column.
    """
    if len(training) > TRAINING_ROWS:
        chosen = np.random.default_rng(0).choice(len(training), TRAINING_ROWS, replace=False)
        training = training.subset(np.sort(chosen))
    real = compare(held_out, training, terminals=terminals)
    ours = compare(held_out, synthetic, terminals=terminals)
    unseen, drawn = _neighbours(training, held_out, synthetic)
    numbers = {
        **_numbers(ours, drawn, "", min(ours.columns, key=lambda name: ours.columns[name])),
        **_numbers(real, unseen, "real_", min(real.columns, key=lambda name: real.columns[name])),
    }
    reasons = [*_similarity_reasons(ours, real), *_terminal_reasons(ours, real)]
    # With few held-out rows the nearest one in a hundred of them says little, so that the samples
    # also have to be nearer as a whole, beyond the error of the Mann-Whitney statistic.
    error = 3 * np.sqrt((1 / drawn.rows + 1 / unseen.rows) / 12)
    if drawn.memorised and drawn.nearer > 0.5 + error:
        reasons.append("many are copies of training rows, or nearly so")
    return Verdict(numbers, tuple(reasons))


def _neighbours(
    training: Transitions, held_out: Transitions, synthetic: Transitions
) -> tuple[Novelty, Novelty]:
    """Of held-out rows, and of samples."""
    layout = TransitionLayout.of(training, terminals=False)
    units = layout.pack(training)
    base = standardise(units, units)
    unseen, drawn = (
        nearest_distances(standardise(layout.pack(rows)[:NEIGHBOUR_ROWS], units), base)
        for rows in (held_out, synthetic)
    )
    return novelty(unseen, unseen), novelty(drawn, unseen)


def _numbers(fidelity: Fidelity, nearest: Novelty, prefix: str, worst: str) -> dict[str, float]:
    return {
        f"{prefix}marginal": fidelity.marginal,
        f"{prefix}correlation": fidelity.correlation,
        f"{prefix}worst_column": fidelity.columns[worst],
        f"{prefix}terminal_rate": fidelity.terminal_rate,
        f"{prefix}nearest_row": nearest.median,
    }


def _similarity_reasons(ours: Fidelity, real: Fidelity) -> list[str]:
    reasons = []
    if real.marginal - ours.marginal > MARGINAL_GAP:
        reasons.append("columns are not distributed as the real ones")
    else:
        worst = max(real.columns, key=lambda name: real.columns[name] - ours.columns[name])
        if real.columns[worst] - ours.columns[worst] > WORST_COLUMN_GAP:
            reasons.append(f"{worst} is not distributed as the real one")
    gaps = (
        real.correlation - ours.correlation,
        real.rank_correlation - ours.rank_correlation,
    )
    if max(gaps) > CORRELATION_GAP:
        reasons.append("columns do not depend on each other as the real ones do")
    return reasons


def _terminal_reasons(ours: Fidelity, real: Fidelity) -> list[str]:
    rate, expected = ours.terminal_rate, real.terminal_rate
    counts = np.array([ours.rows[1], real.rows[1]])
    pooled = np.average([rate, expected], weights=counts)
    error = 3 * np.sqrt(pooled * (1 - pooled) * np.sum(1 / counts))
    if rate < expected / 2 - error or rate > 2 * expected + error:
        return [f"{rate:.2%} of them are terminal, {expected:.2%} of the real rows"]
    return []

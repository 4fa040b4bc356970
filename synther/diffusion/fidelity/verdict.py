"""The verdict on samples says what was found, what speaks against them, and if they are trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from synther.diffusion.fidelity import findings as find
from synther.diffusion.fidelity.conditional import Successors, conditional
from synther.diffusion.fidelity.discrete import discrete_columns
from synther.diffusion.fidelity.distances import standardise
from synther.diffusion.fidelity.findings import Finding
from synther.diffusion.fidelity.findings_of_law import law_findings
from synther.diffusion.fidelity.held_out import draw, share_also_trained_on
from synther.diffusion.fidelity.novelty import Neighbourhood, Novelty, novelty
from synther.diffusion.fidelity.regions import regions
from synther.diffusion.fidelity.report import Fidelity, compare
from synther.diffusion.fidelity.similarity import differences
from synther.diffusion.fidelity.two_sample import MIN_ROWS, two_sample
from synther.transitions import TransitionLayout, Transitions

TRAINING_ROWS = 100_000
"""Of a larger data set, rows that similarities and nearest neighbours are taken from."""
JUDGED_ROWS = 10_000
"""Held-out rows, and synthetic ones, that are judged at most."""
NEIGHBOUR_ROWS = 5_000
"""Of these, rows of each kind that look for their neighbours."""
ALSO_TRAINED_ON = 0.01
"""From this share of held-out rows on that are among the training rows too, a verdict says so."""


@dataclass(frozen=True)
class Verdict:
    """What was found, and whether the samples are to be trusted.

    Args:
        findings: one for each kind of fault, in the order of a table.
        numbers: ``marginal``, ``correlation``, ``worst_column``, ``terminal_rate`` and
            ``nearest_row`` (median distance to the nearest training row, in standard deviations) of
            the samples, and of real rows under ``real_`` and the same name; ``two_sample`` and the
            figure of each other finding under its name; ``conditional_ratio``, the geometric mean
            over columns of the conditional error in units of the regression's held-out error;
            ``also_trained_on``, the share of the held-out rows that are among the training rows
            too, where there are any. What cannot be measured, such as the correlation of constant
            columns, is left out.
        columns: of a column by name, ``ks`` (its Kolmogorov-Smirnov distance) and, where a
            regression was asked, what :class:`ConditionalColumn` has.
        unseen: whether the model is known not to have seen the rows that it was measured against.
    """

    findings: tuple[Finding, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    unseen: bool = True

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the samples are not to be trusted, a sentence each; none where they are."""
        return tuple(finding.fault for finding in self.findings if not finding.passed)

    @property
    def trusted(self) -> bool:
        return not self.reasons

    def __str__(self) -> str:
        shown = {"marginal": ".3f", "correlation": ".3f", "nearest_row": ".2f"}
        text = ", ".join(
            f"{name.replace('_', ' ')} {self.numbers[name]:{style}} "
            f"(real {self.numbers['real_' + name]:{style}})"
            for name, style in shown.items()
            if {name, f"real_{name}"} <= self.numbers.keys()
        )
        if (share := self.numbers.get("also_trained_on", 0.0)) >= ALSO_TRAINED_ON:
            text += (
                f"; {share:.0%} of the held-out rows were trained on as well, since rows occur "
                "more than once: they cannot tell copies from new rows"
            )
        if self.trusted:
            rows = "held-out real rows" if self.unseen else "real rows that it may have seen"
            return f"the samples look like {rows}: {text}"
        return f"the samples are NOT to be trusted ({'; '.join(self.reasons)}): {text}"

    def table(self, name: str = "the samples") -> Table:
        """A row for each finding: its figure, what real rows have, and the limits."""
        trusted = "to be trusted" if self.trusted else "NOT to be trusted"
        table = Table(title=f"Verdict on {name}: {trusted}", box=SIMPLE_HEAD, pad_edge=False)
        for heading in ("", "samples", "real rows", "limits"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        table.add_column("")
        for each in self.findings:
            error = "" if each.error is None else f" +- {each.error:.1g}"
            table.add_row(
                each.name.replace("_", " "),
                f"{each.figure:.4f}{error}",
                f"{each.expected:.4f}",
                f"up to {each.high:.3f}" if not each.low else f"{each.low:.3f} to {each.high:.3f}",
                "" if each.passed else "beyond",
            )
        return table

    def to_plain(self) -> dict[str, Any]:
        """The verdict in JSON types, with ``trusted`` and ``reasons``; see :meth:`from_plain`."""
        return {
            "trusted": self.trusted,
            "reasons": list(self.reasons),
            "numbers": dict(self.numbers),
            "columns": {name: dict(figures) for name, figures in self.columns.items()},
            "findings": [{**asdict(each), "passed": each.passed} for each in self.findings],
            "unseen": self.unseen,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Verdict:
        """What :meth:`to_plain` gave; of an earlier version, without findings, the reasons."""
        if "findings" in plain:
            names = Finding.__dataclass_fields__
            found = [{name: each[name] for name in names} for each in plain["findings"]]
        else:
            limits = {"figure": 1.0, "expected": 0.0, "error": None, "low": None, "high": 0.0}
            found = [{"name": "earlier", "fault": why, **limits} for why in plain["reasons"]]
        made = tuple(Finding(**each) for each in found)
        columns, unseen = dict(plain.get("columns", {})), bool(plain.get("unseen", True))
        return cls(made, dict(plain["numbers"]), columns, unseen)


def judge(
    training: Transitions,
    held_out: Transitions,
    synthetic: Transitions,
    *,
    terminals: bool,
    successors: Successors | None = None,
    unseen: bool = True,
    seed: int = 0,
) -> Verdict:
    """Compare samples with real rows that the model did not see.

    Real rows in place of the samples are trusted but for a chance of one in a thousand; every limit
    is that error and a tolerance, see ``limits.py``.

    Args:
        training: rows that the model was trained on.
        held_out: rows that it did not see.
        synthetic: its samples.
        terminals: whether the model has a terminal column.
        successors: a regression that was trained on ``training``, which says what follows an
            observation and an action; without it nothing is said of conditional error and noise.
        unseen: whether the model is known not to have seen ``held_out``; False leaves out what only
            such rows can tell.
        seed: of what is drawn; the same one gives the same verdict.
    """
    also_trained_on = share_also_trained_on(training, held_out) if unseen else 0.0
    training = training.subset(draw(len(training), TRAINING_ROWS, seed))
    held_out = held_out.subset(draw(len(held_out), JUDGED_ROWS, seed))
    synthetic = synthetic.subset(draw(len(synthetic), JUDGED_ROWS, seed))
    real = compare(held_out, training, terminals=terminals)
    ours = compare(held_out, synthetic, terminals=terminals)
    cloud = _Cloud(training, held_out, synthetic, unseen, seed)
    found = [
        *find.marginals(ours),
        find.correlations(ours, real),
        *_classifier(held_out, synthetic, terminals, seed),
        *cloud.regions(),
        *_discrete(training, held_out, synthetic, terminals),
        *find.copies(cloud.drawn),
    ]
    columns: dict[str, dict[str, float | None]]
    columns = {name: {"ks": 1 - score} for name, score in ours.similarities.items()}
    numbers = {"also_trained_on": also_trained_on} if also_trained_on else {}
    if successors is not None:
        law = conditional(successors, held_out, synthetic)
        found += law_findings(law, terminals)
        numbers["conditional_ratio"] = law.ratio
        for each in law.columns:
            plain = asdict(each)
            columns[plain.pop("name")].update(plain)
    numbers |= {
        **_numbers(ours, cloud.drawn, "", _worst(ours)),
        **_numbers(real, cloud.unseen, "real_", _worst(real)),
        **{each.name: each.figure for each in found if each.name != "worst_column"},
    }
    measured = {name: number for name, number in numbers.items() if not math.isnan(number)}
    return Verdict(tuple(found), measured, columns, unseen)


class _Cloud:
    """Rows without their terminals as points, in standard deviations of the training rows."""

    def __init__(
        self,
        training: Transitions,
        held_out: Transitions,
        synthetic: Transitions,
        unseen: bool,
        seed: int,
    ) -> None:
        layout = TransitionLayout.of(training, terminals=False)
        units = layout.pack(training)
        rows = [standardise(layout.pack(each), units) for each in (training, held_out, synthetic)]
        self._training, self._held_out, self._synthetic = rows
        self._seed = seed
        neighbourhood = Neighbourhood(self._training, self._held_out, unseen=unseen, seed=seed)
        own = draw(len(held_out), NEIGHBOUR_ROWS, seed)
        nearness = neighbourhood.of(self._held_out[own], own_rows=own)
        drawn = neighbourhood.of(self._synthetic[draw(len(synthetic), NEIGHBOUR_ROWS, seed)])
        self.unseen: Novelty = novelty(nearness, nearness)
        self.drawn: Novelty = novelty(drawn, nearness)

    def regions(self) -> list[Finding]:
        found = regions(self._training, self._held_out, self._synthetic, seed=self._seed)
        return [find.regions(found)] if found else []


def _classifier(
    held_out: Transitions, synthetic: Transitions, terminals: bool, seed: int
) -> list[Finding]:
    if min(len(held_out), len(synthetic)) < MIN_ROWS:
        return []
    layout = TransitionLayout.of(held_out, terminals=terminals)
    rows = [np.hstack([layout.pack(each), differences(each)]) for each in (held_out, synthetic)]
    if not np.ptp(rows[0], axis=0).any():  # constants that samples leave are unseen values
        return []
    return [find.classifier(two_sample(rows[0], rows[1], seed=seed))]


def _discrete(
    training: Transitions, held_out: Transitions, synthetic: Transitions, terminals: bool
) -> list[Finding]:
    layout = TransitionLayout.of(training, terminals=terminals)
    real = np.concatenate([layout.pack(training), layout.pack(held_out)])
    columns = discrete_columns(real, layout.pack(synthetic), layout.column_names)
    rows = len(real), len(synthetic)
    found = [
        find.unseen_values(columns, *rows),
        find.frequencies(columns, "few", *rows),
        find.frequencies(columns, "atoms", *rows),
    ]
    return [each for each in found if each]


def _worst(fidelity: Fidelity) -> str:
    return min(fidelity.columns, key=lambda name: fidelity.columns[name])


def _numbers(fidelity: Fidelity, nearest: Novelty, prefix: str, worst: str) -> dict[str, float]:
    return {
        f"{prefix}marginal": fidelity.marginal,
        f"{prefix}correlation": fidelity.correlation,
        f"{prefix}worst_column": fidelity.columns[worst],
        f"{prefix}terminal_rate": fidelity.terminal_rate,
        f"{prefix}nearest_row": nearest.median,
    }

"""The full assessment of samples measures similarity, dynamics and novelty beside real rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synther.datasets.action_units import sample_bounds
from synther.diffusion.fidelity.distances import standardise
from synther.diffusion.fidelity.dynamics import simulate
from synther.diffusion.fidelity.held_out import RealRows, draw
from synther.diffusion.fidelity.novelty import Nearness, Neighbourhood, novelty
from synther.diffusion.fidelity.report import SCORES, Fidelity, FidelityReport, compare
from synther.runs.loggers import progress_bar
from synther.transitions import TransitionLayout, Transitions


@dataclass(frozen=True, eq=False)
class RowMeasures:
    """Two measures of each of N rows: the distance to the nearest training row, and the squared
    dynamics error (NaN where there is none)."""

    distances: NDArray[np.float64]
    errors: NDArray[np.float64]


def assess(
    real: RealRows,
    samples: Mapping[str, Transitions],
    *,
    env_id: str | None,
    terminals: bool = True,
    max_rows: int = 10_000,
    seed: int = 0,
) -> tuple[FidelityReport, dict[str, RowMeasures]]:
    """Samples against held-out real rows, in units of the real rows' standard deviations.

    Distances are those of whole rows without the terminal flag, which is no coordinate. Where the
    model may have seen the held-out rows, samples are measured against all real rows, and a real
    row against all the others.

    Args:
        real: the training and held-out rows.
        samples: the sets of rows by name.
        env_id: the name of the simulator; None where unknown.
        terminals: whether the terminal column counts in the similarities; False where it is not
            modelled.
        max_rows: how many rows of each set, drawn at random, go into the simulator and look for
            their nearest training row; similarities use all rows.
        seed: the seed of the draw.

    Returns:
        The report, with the held-out rows themselves under ``held_out``, and what was measured row
        by row.

    Raises:
        ValueError: samples with the name ``held_out``.
    """
    if "held_out" in samples:
        raise ValueError("the name 'held_out' is that of the held-out rows: give samples another")
    measurement = _Measurement(real, env_id, terminals, max_rows, seed)
    found = {"held_out": measurement.of("held_out", real.held_out, is_held_out=True)}
    for name, rows in samples.items():
        found[name] = measurement.of(name, rows)
    unseen = found["held_out"][1]
    comparisons = {
        name: replace(fidelity, novelty=novelty(nearness, unseen))
        for name, (fidelity, nearness, _) in found.items()
    }
    measures = {
        name: RowMeasures(nearness.distances, errors)
        for name, (_, nearness, errors) in found.items()
    }
    return FidelityReport(real.reference, comparisons), measures


class _Measurement:
    def __init__(
        self, real: RealRows, env_id: str | None, terminals: bool, max_rows: int, seed: int
    ) -> None:
        self.real, self.env_id, self.terminals = real, env_id, terminals
        self.max_rows, self.seed = max_rows, seed
        self.bounds = sample_bounds(real.training, real.held_out)
        self.everything = Transitions.concatenate([real.training, real.held_out])
        self.layout = TransitionLayout.of(self.everything, terminals=False)
        self.units = self.layout.pack(self.everything)
        training, held_out = (
            standardise(self.layout.pack(rows), self.units)
            for rows in (real.training, real.held_out)
        )
        self.neighbourhood = Neighbourhood(training, held_out, unseen=real.unseen, seed=seed)

    def of(
        self, name: str, rows: Transitions, *, is_held_out: bool = False
    ) -> tuple[Fidelity, Nearness, NDArray[np.float64]]:
        reference = self.real.training if is_held_out else self.real.held_out
        with progress_bar(SCORES, f"{name}: similarity", unit="score") as bar:
            fidelity = compare(
                reference,
                rows,
                terminals=self.terminals,
                action_bounds=self.bounds,
                advance=bar.update,
            )
        chosen = draw(len(rows), self.max_rows, self.seed)
        drawn = rows.subset(chosen)
        with progress_bar(len(drawn), f"{name}: simulator", unit="row") as bar:
            dynamics, errors = simulate(drawn, self.env_id, self.everything, advance=bar.update)
        with progress_bar(len(drawn), f"{name}: nearest row", unit="row") as bar:
            nearness = self.neighbourhood.of(
                standardise(self.layout.pack(drawn), self.units),
                own_rows=chosen if is_held_out else None,
                advance=bar.update,
            )
        return replace(fidelity, dynamics=dynamics), nearness, errors

"""How near do synthetic rows come to a law that is known? The noisy part of ``row_quality.py``.

    python3 benchmarks/row_quality_law.py [--folder row_quality] [--workers 2] [--table]

The arms are those of ``row_quality.py`` at the demo's size, from 3 generator seeds, on 40 000 rows
of ``known_law.py``. No agent can be scored there, since it is no environment; in return, what
follows an observation and an action is known, noise included. Fixed before the first run:

- **Noise is kept** where the standard deviation of the residuals of each column (position,
  velocity, temperature, reward), in units of the law's, is between 0.93 and 1.07.
- **Rates are kept** where the share of terminals, and that of rows with an action at its bound,
  are within three standard errors of counting of the data's (both sets counted).

Each arm's result is written as soon as it is there, and what is finished is left alone.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import known_law
import numpy as np
from offline_learning import REPOSITORY
from rich.table import Table
from row_quality import (
    GENERATOR_SEEDS,
    NORMALIZERS,
    Rows,
    console,
    sampled,
)
from studies import add_workers, do_all, processor

from synther.files import atomic
from synther.runs.commands import command_errors
from synther.transitions import Transitions

RESULTS = REPOSITORY / "benchmarks/results/row_quality_law"
DATA, NUM_ROWS = "known-law", 40_000
NOISE = (0.93, 1.07)
COUNTING = 3.0
"""Standard errors by which a rate may differ."""


def study() -> list[Rows]:
    """All arms; the first generator seed of each comes first."""
    plan = itertools.product(GENERATOR_SEEDS, NORMALIZERS, ("off", "ensemble"))
    return [
        Rows(DATA, coordinates, consistency, "demo", seed)  # type: ignore[arg-type]
        for seed, coordinates, consistency in plan
    ]


def data_set(folder: Path) -> Path:
    """The rows of the law, made where they are missing."""
    path = folder / f"{DATA}.npz"
    if not path.exists():
        known_law.collect(NUM_ROWS).save(path)
    return path


def measured(rows: Transitions, real: Transitions) -> dict[str, Any]:
    """What the module says of ``rows``, as plain values."""
    noise = {name: float(each.std()) for name, each in known_law.residuals(rows).items()}
    rates = {"terminals": _rate(rows.terminals > 0.5, real.terminals > 0.5)}
    rates["actions at bounds"] = _rate(_at_bounds(rows), _at_bounds(real))
    return {
        "noise": noise,
        "noise_is_kept": all(NOISE[0] <= each <= NOISE[1] for each in noise.values()),
        "rates": rates,
        "rates_are_kept": all(abs(each["z"]) <= COUNTING for each in rates.values()),
        "inconsistent_flags": known_law.inconsistent_flags(rows),
    }


def _at_bounds(rows: Transitions) -> np.ndarray:
    at_bounds: np.ndarray = (np.abs(rows.actions) >= 1).any(axis=1)
    return at_bounds


def _rate(synthetic: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Both rates, and their difference in standard errors of counting."""
    ours, theirs = float(synthetic.mean()), float(real.mean())
    error = np.sqrt(theirs * (1 - theirs) * (1 / len(synthetic) + 1 / len(real)))
    return {"synthetic": ours, "real": theirs, "z": float((ours - theirs) / error)}


def do(folder: Path, rows: Rows) -> None:
    """One arm of one generator seed, or what is left of it."""
    target = RESULTS / f"{rows.arm}-s{rows.seed}.json"
    if target.exists():
        return
    path = data_set(folder)
    sampled(folder, rows, str(path))
    samples = Transitions.load(folder / rows.model / f"{rows.consistency}.npz")
    found = measured(samples, Transitions.load(path))
    atomic.write_json(target, {
        "arm": rows.arm, "generator_seed": rows.seed, **found,
        "command": "python3 benchmarks/row_quality_law.py", "processor": processor(),
    })  # fmt: skip


def do_arms(folder: Path, arms: Sequence[Rows]) -> None:
    """The arms of one model, one after the other."""
    for rows in arms:
        do(folder, rows)


def table() -> Table:
    """Every arm, a row each; of several generator seeds, the lowest and highest value."""
    shown = Table(title=f"Rows of {DATA}, lowest to highest of the generator seeds")
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    names = list(records[0]["noise"]) if records else []
    for heading in ("rows", "seeds", *(f"noise of {name}" for name in names), "noise is kept"):
        shown.add_column(heading)
    for heading in ("terminals", "at bounds", "rates are kept", "inconsistent flags"):
        shown.add_column(heading)
    for arm in sorted({each["arm"] for each in records}):
        of = [each for each in records if each["arm"] == arm]
        shown.add_row(
            arm,
            str(len(of)),
            *(_span([each["noise"][name] for each in of]) for name in names),
            f"{sum(each['noise_is_kept'] for each in of)} of {len(of)}",
            *(
                _span([each["rates"][name]["synthetic"] for each in of], "%")
                for name in ("terminals", "actions at bounds")
            ),
            f"{sum(each['rates_are_kept'] for each in of)} of {len(of)}",
            _span([each["inconsistent_flags"] for each in of], "%"),
        )
    return shown


def _span(values: list[float], unit: str = "") -> str:
    form = "{:.2%}" if unit else "{:.3f}"
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("row_quality"))
    add_workers(parser)
    parser.add_argument("--table", action="store_true", help="print the results alone")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if not options.table:
        data_set(folder)
        # The last stage samples from the model of its arm without it.
        pairs = itertools.groupby(study(), key=lambda rows: rows.model)
        models = [list(arms) for _, arms in pairs]
        jobs = [functools.partial(do_arms, folder, arms) for arms in models]
        do_all(jobs, options.workers)
    console.print(table(), soft_wrap=False)


if __name__ == "__main__":
    with command_errors(resume=False):
        main()

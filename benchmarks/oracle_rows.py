"""An oracle for finding causes: the simulator says what follows in a file of samples.

    python3 benchmarks/oracle_rows.py samples.npz oracle.npz --env_id HalfCheetah-v2
                                      [--fields next_observations rewards terminals]

Observation and action of each row stay, the named fields become the simulator's. Where an agent
learns more from the result than from the samples, the fault is in those fields. No generator may
use this: it asks the very simulator that samples are to stand in for. Rows whose observation does
not hold the simulator's state, and rows whose simulation diverges, are left out, and counted.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from synther.envs.one_step import simulate_steps
from synther.runs.loggers import progress_bar
from synther.transitions import Transitions

FIELDS = ("next_observations", "rewards", "terminals")
LABEL = "oracle: the simulator's answers, for finding causes only"


def oracle_rows(
    samples: Transitions, env_id: str, fields: tuple[str, ...] = FIELDS
) -> tuple[Transitions, float]:
    """Samples with ``fields`` as the simulator has them, and the share of rows that was left out.

    Raises:
        NotSimulatedError: see :func:`synther.envs.one_step.simulate_steps`.
        ValueError: terminals or rewards, where they do not follow from observation and action.
    """
    with progress_bar(len(samples), "simulating", unit="row") as bar:
        steps = simulate_steps(env_id, samples.observations, samples.actions, advance=bar.update)
    if not steps.reward_known and set(fields) & {"rewards", "terminals"}:
        raise ValueError(f"{env_id}: reward and terminal depend on a goal that no row holds")
    kept = samples.subset(steps.stable)
    answers = {name: getattr(steps, name)[steps.stable].astype(np.float32) for name in FIELDS}
    metadata = {**samples.metadata, "source": LABEL, "replaced": list(fields)}
    chosen = {name: answers[name] for name in fields}
    return replace(kept, **chosen, metadata=metadata), 1 - float(steps.stable.mean())  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--env_id", help="default: what the samples' metadata says")
    parser.add_argument("--fields", nargs="+", choices=FIELDS, default=list(FIELDS))
    options = parser.parse_args()
    samples = Transitions.load(options.samples)
    env_id = options.env_id or samples.metadata.get("env_id")
    if env_id is None:
        parser.error(f"{options.samples} does not say its environment; pass --env_id")
    rows, left_out = oracle_rows(samples, env_id, tuple(options.fields))
    rows.save(options.result)
    Console(soft_wrap=True, markup=False).print(
        f"{options.result}: {len(rows)} rows, {LABEL}; {left_out:.1%} of the rows are left out"
    )


if __name__ == "__main__":
    main()

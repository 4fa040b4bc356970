"""This command draws a share of a data set's rows at random, the same rows each time.

python3 synther/sweeps/subset.py --dataset hopper-demo-v0 --fraction 0.15 --output small.npz
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synther.datasets import load_dataset
from synther.datasets.episodes import episode_returns
from synther.datasets.outputs import require_other_file, require_replaceable
from synther.files.atomic import expanded
from synther.ranges import Fraction
from synther.runs.commands import SEED, argument, command_errors
from synther.transitions import TransitionError, Transitions


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    parser = argparse.ArgumentParser(description="Draw a share of a data set's rows at random.")
    parser.add_argument("--dataset", required=True, help="name or path, as train_diffuser.py's")
    share = argument(Fraction)
    parser.add_argument("--fraction", type=share, required=True, help="between 0 and 1")
    parser.add_argument("--seed", type=SEED, default=0, help="default: 0")
    parser.add_argument("--output", type=Path, required=True, help="the .npz to write")
    args = parser.parse_args(argv)
    with command_errors(resume=False):
        args.output = expanded(args.output)
        require_other_file(args.output, "--output", [args.dataset])
        data = load_dataset(args.dataset)
        _, subset = data.split(args.fraction, args.seed)
        require_replaceable(args.output, "--output", "subset", len(subset))
        drawn = {"subset": {"share": args.fraction, "seed": args.seed}}
        replace(subset, metadata={**subset.metadata, **_return_range(data), **drawn}).save(
            args.output
        )


def _return_range(data: Transitions) -> dict[str, list[float]]:
    """The smallest and the largest return of the data's episodes, of which a selection of rows
    knows nothing, but by which its rewards are normalised; nothing where they are not known."""
    with contextlib.suppress(TransitionError):
        returns = episode_returns(data)
        if len(returns):
            return {"return_range": [float(returns.min()), float(returns.max())]}
    return {}


if __name__ == "__main__":
    main()

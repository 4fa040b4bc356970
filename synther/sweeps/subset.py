"""This command draws a share of a data set's rows at random, the same rows each time.

python3 synther/sweeps/subset.py --dataset hopper-demo-v0 --fraction 0.15 --output small.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from synther.datasets import load_dataset
from synther.runs.commands import command_errors


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    parser = argparse.ArgumentParser(description="Draw a share of a data set's rows at random.")
    parser.add_argument("--dataset", required=True, help="name or path, as train_diffuser.py's")
    parser.add_argument("--fraction", type=float, required=True, help="between 0 and 1")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--output", type=Path, required=True, help="the .npz to write")
    args = parser.parse_args(argv)
    with command_errors(resume=False):
        _, subset = load_dataset(args.dataset).split(args.fraction, args.seed)
        subset.save(args.output)


if __name__ == "__main__":
    main()

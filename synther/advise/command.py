"""The command that says, before hours are spent, what the study saw on data like these.

    python3 -m synther.advise mine.npz

It takes a minute or two: a small pilot model is trained, and a few steps of everything are timed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from synther.advise import study
from synther.advise.advice import Advice
from synther.advise.calibration import measure
from synther.advise.features import describe, pilot_figures
from synther.advise.table import read_table
from synther.datasets import load_dataset
from synther.runs.command_line import CommandParser
from synther.runs.commands import SEED, command_errors
from synther.runs.runtime import resolve_device
from synther.transitions import TransitionError
from synther.upsampling.config import MIN_ROWS, default_config


def advise(data: str, *, table: Path | None = None, device: str = "auto", seed: int = 0) -> Advice:
    """The advice on a data set.

    Args:
        data: what :func:`synther.datasets.load_dataset` takes.
        table: of the study, in place of the one that ships inside.
        device: of the pilot model and of what is timed.
        seed: of the pilot.

    Raises:
        NoAdviceError: the study has no cells, or none that is near.
        TransitionError: the data cannot be used.
    """
    cells = read_table(table)  # before anything that takes time
    where = resolve_device(device)
    transitions = load_dataset(data)
    if len(transitions) < MIN_ROWS:
        raise TransitionError(
            f"{data}: {len(transitions)} rows, expected {MIN_ROWS} or more; a model of fewer "
            "repeats them"
        )
    features = describe(transitions)
    features = replace(features, **pilot_figures(transitions, seed=seed, device=device))
    answers = study.require_near(cells, features)
    config = default_config(len(transitions), where)
    times = measure(transitions, config, where)
    return Advice(features, answers, study.leave_one_out(cells), config, times)


def show(advice: Advice, console: Console) -> None:
    """Print the advice with its error."""
    console.print(f"The data: {advice.description()}.")
    console.print(advice.table())
    for heading, text in (
        ("How often such answers are right", str(advice.score)),
        ("Suggested", advice.suggestion()),
        ("Time here", advice.duration()),
        ("What this cannot know", advice.unknown()),
    ):
        console.print(f"{heading}: {text}.")


def build_parser() -> CommandParser:
    """The command line; see ``--help``."""
    parser = CommandParser(
        "Say what the study saw on data like these: help, no difference, or harm.",
        "synther advise hopper-demo-v0",
    )
    add = parser.add_argument
    add("data", help="an .npz or .hdf5 file, or a data set's name, such as hopper-demo-v0")
    add("--table", type=Path, metavar="PATH", help="of the study; default: the one inside")
    add("--seed", type=SEED, default=0, help="of the pilot model (default: 0)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default: auto)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    args = build_parser().parse_args(argv)
    with command_errors(TransitionError, resume=False):
        advice = advise(args.data, table=args.table, device=args.device, seed=args.seed)
        show(advice, Console(file=sys.stdout, markup=False, highlight=False, soft_wrap=False))

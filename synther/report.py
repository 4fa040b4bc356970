"""This command makes tables, learning curves and aggregate metrics of finished runs.

    python3 synther/report.py sweeps/tiny corl_logs/ --output report

It takes any folders of runs: a study's, or those that the RL commands wrote. ``--output`` then has
``report.md``, ``report.tex``, ``curves.png`` and ``summary.json``.
"""

from __future__ import annotations

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from synther.reports.render import render
from synther.reports.runs import read_runs
from synther.runs.command_line import CommandParser
from synther.runs.commands import command_errors

console = Console(soft_wrap=True, markup=False)  # a path stays whole, brackets and all


def build_parser() -> CommandParser:
    """The command line; see ``--help``."""
    parser = CommandParser(
        "Tables and curves of finished runs.",
        "synther report sweeps/tiny corl_logs --output report",
    )
    parser.add_argument("folders", type=Path, nargs="+", help="folders of studies, or of runs")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: report/ in the first folder"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    args = build_parser().parse_args(argv)
    with command_errors(resume=False):
        runs = read_runs(args.folders)
        if not runs.finished and not runs.unfinished:
            raise ValueError(f"no runs in {', '.join(map(str, args.folders))}")
        written = render(runs, args.output or args.folders[0] / "report")
    for each in runs.unfinished:
        console.print(f"not finished: {each.name} ({each.state})", highlight=False)
    console.print(*written, sep="\n", highlight=False)


if __name__ == "__main__":
    main()

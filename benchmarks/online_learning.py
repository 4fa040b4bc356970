"""Does the online agent learn, and does SynthER learn from fewer environment steps?

    python3 benchmarks/online_learning.py [--folder online_learning] [--workers 2] [--list]

Makes what is missing in ``--folder`` and resumes what was cut off, so that it can be stopped and
started again: SAC on ``HalfCheetah-v2``, and SAC, SynthER and REDQ with the small configuration on
two tasks of the DeepMind Control Suite. Each run's epochs are copied to
``benchmarks/results/online_learning``, which ``figs/draw_online_learning.py`` reads.
"""

from __future__ import annotations

import argparse
import functools
import operator
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from studies import add_workers, chosen, do_all

from synther.runs.commands import command_errors
from synther.runs.loggers import read_metrics

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks/results/online_learning"
ARMS = {
    "SAC": "config/online/sac_small.gin",
    "SynthER": "config/online/sac_synther_dmc_small.gin",
    "REDQ": "config/online/redq_small.gin",
}
SMALL_EPOCHS = 15
SEEDS = (0, 1, 2)
console = Console()


@dataclass(frozen=True)
class Run:
    """One run of the command."""

    arm: str
    env: str
    seed: int
    gin: str
    epochs: int

    @property
    def name(self) -> str:
        return f"{self.arm}_{self.env}_s{self.seed}"

    @property
    def arguments(self) -> list[str]:
        """Of ``synther/online/online_exp.py``, but for the folder."""
        return [
            *("--env", self.env, "--seed", str(self.seed), "--exp_name", self.arm),
            *("--gin_config_files", self.gin, "--gin_params", f"redq_sac.epochs = {self.epochs}"),
            *(("redq_sac.compile = 'default'",) if self.arm != "SAC" else ()),
        ]


def study() -> list[Run]:
    """All runs, seed by seed, so that whatever time allows can be compared."""
    small = [
        Run(arm, env, seed, gin, SMALL_EPOCHS)
        for seed in SEEDS
        for env in ("cheetah-run-v0", "reacher-hard-v0")
        for arm, gin in ARMS.items()
        if arm != "REDQ" or env == "cheetah-run-v0"
    ]
    return [Run("SAC", "HalfCheetah-v2", 0, "config/online/sac.gin", 60), *small]


def train(folder: Path, run: Run) -> None:
    """Do a run, or what is left of it, and copy its epochs."""
    home = folder / f"{run.arm}_{run.env}" / run.name
    epochs = read_metrics(home / "metrics.jsonl")
    if len(epochs) < run.epochs:
        words = ["synther/online/online_exp.py", *run.arguments, "--results_folder", str(folder)]
        words += ["--threads", "1", "--resume"]
        console.print(f"$ python3 {shlex.join(words)}", soft_wrap=True, highlight=False)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{run.name}.log", "a", encoding="utf-8") as log:
            subprocess.run(
                [sys.executable, *words], stdout=log, stderr=log, check=True, cwd=REPOSITORY
            )
    target = RESULTS / run.name
    target.mkdir(parents=True, exist_ok=True)
    for name in ("metrics.jsonl", "run.json"):
        shutil.copyfile(home / name, target / name)


def table() -> Table:
    """Return of the last three evaluations of each finished run, mean and standard error."""
    rows = Table(title="Return, mean of the last three evaluations; mean +- s.e. over seeds")
    for heading in ("environment", "agent", "steps", "return", "seeds"):
        rows.add_column(heading)
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in study():
        groups.setdefault((run.env, run.arm), []).append(run)
    for (env, arm), runs in groups.items():
        scores, steps = [], 0
        for run in runs:
            epochs = read_metrics(RESULTS / run.name / "metrics.jsonl")
            if epochs:
                scores.append(np.mean([epoch["AverageTestEpRet"] for epoch in epochs[-3:]]))
                steps = epochs[-1]["step"]
        if scores:
            found = f"{np.mean(scores):.1f}"
            if len(scores) > 1:
                found += f" +- {np.std(scores, ddof=1) / np.sqrt(len(scores)):.1f}"
            rows.add_row(env, arm, str(steps), found, str(len(scores)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Learning checks of the online agents.")
    parser.add_argument("--folder", type=Path, default=Path("online_learning"))
    add_workers(parser)
    parser.add_argument("--only", default="", help="runs whose name has this in it")
    parser.add_argument("--list", action="store_true", help="print the commands and do nothing")
    options = parser.parse_args()
    runs = {run.name: run for run in study()}
    wanted = chosen(parser, "--only", options.only, runs, fits=operator.contains)
    if options.list:
        for run in wanted:
            console.print(
                f"python3 synther/online/online_exp.py {shlex.join(run.arguments)}",
                soft_wrap=True,
                highlight=False,
            )
        return
    folder = options.folder.resolve()
    do_all([functools.partial(train, folder, run) for run in wanted], options.workers)
    console.print(table())


if __name__ == "__main__":
    with command_errors(resume=False):
        main()

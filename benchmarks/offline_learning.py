"""Do the offline algorithms learn, and does SynthER help on little data?

    python3 benchmarks/offline_learning.py [--folder offline_learning] [--workers 2]
                                           [--runs 'td3_bc-*,iql-*']

Makes what is missing in ``--folder`` and leaves alone what is finished, so that it can be stopped
and started again: a HalfCheetah replay collected by the project, random subsets of the shipped data
set, a diffusion model and samples for each, and one run of four stacked seeds for each algorithm
and source. Runs are in bf16 and compiled, some also in float32 and eager, to see whether scores
change. Metrics and results are copied to ``benchmarks/results/offline_learning``, which
``figs/draw_offline_learning.py`` reads.
"""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from rich.console import Console
from rich.table import Table
from studies import add_workers, chosen, do_all, go_on

from synther.datasets import load_dataset
from synther.datasets.collect import Budget, Collection
from synther.files import atomic, checkpoint
from synther.runs.commands import command_errors
from synther.runs.runtime import Precision

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks/results/offline_learning"
SHIPPED = "hopper-demo-v0"
COLLECTED, COLLECTION = "halfcheetah-replay", "halfcheetah-medium-replay"
"""A data set that is made, by its name here and in ``synther.datasets.collect``."""
SUBSETS = {"hopper-15pct": 0.15, "hopper-5pct": 0.05}
SEEDS = 4
SAMPLES = 50_000
UPDATES = {"td3_bc": 6_000, "iql": 6_000, "edac": 2_000, "cql": 1_000}
console = Console()


@dataclass(frozen=True)
class Run:
    """One algorithm on one source."""

    algorithm: str
    data: str  # one of SUBSETS, SHIPPED or COLLECTED
    synthetic: bool
    precision: Precision = "bf16"

    @property
    def name(self) -> str:
        suffix = "" if self.precision == "bf16" else f"-{self.precision}"
        return f"{self.algorithm}-{self.data}-{'synther' if self.synthetic else 'real'}{suffix}"


def study() -> list[Run]:
    """All runs, those of the small-data comparison first."""
    comparisons: list[tuple[str, str, Precision]] = [
        (algorithm, data, "bf16") for data in SUBSETS for algorithm in ("td3_bc", "iql")
    ]
    comparisons += [
        (algorithm, data, "bf16") for data in (SHIPPED, COLLECTED) for algorithm in UPDATES
    ]
    comparisons += [(algorithm, "hopper-15pct", "fp32") for algorithm in ("td3_bc", "iql")]
    return [
        Run(algorithm, data, synthetic, precision)
        for algorithm, data, precision in comparisons
        for synthetic in (False, True)
    ]


def start(log: Path, script: str, *arguments: object) -> None:
    """Run a command of the project, unless the study ends; its output goes to ``log``."""
    go_on()
    words = [str(word) for word in (script, *arguments)]
    console.print(f"$ {spoken(words)}", soft_wrap=True, highlight=False)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as file:
        subprocess.run(
            [sys.executable, *words], stdout=file, stderr=file, check=True, cwd=REPOSITORY
        )


def trained(runs: Path, log: Path, command: Sequence[object]) -> Path:
    """The folder of the run that ``command`` makes in ``runs``: done, or gone on with, where it is
    not finished."""
    if not list(runs.glob("*/result.json")):
        resume = ["--resume"] if list(runs.glob("*")) else []
        start(log, *map(str, command), *resume)
    (finished,) = runs.glob("*/result.json")
    return finished.parent


def is_trained(home: Path, steps: int) -> bool:
    """Whether a folder has the diffusion model of the last step; one that was cut off left earlier
    ones."""
    return steps in checkpoint.steps(home, "model")


def data_path(folder: Path, data: str) -> str:
    """Name or file of the data set called ``data``, which need not be there yet."""
    own = folder / f"{data}.npz"
    if data == SHIPPED:
        return data
    if data == COLLECTED and not own.exists():
        return str(folder / "collected" / f"{COLLECTION}.npz")
    return str(own)


def data_set(folder: Path, data: str) -> str:
    """Name or file of the data set called ``data``, made where it is missing."""
    path = data_path(folder, data)
    if data in SUBSETS and not Path(path).exists():
        _, subset = load_dataset(SHIPPED).split(SUBSETS[data], seed=0)
        subset.save(path)
    if data == COLLECTED and not Path(path).exists():
        Collection(folder / "collected", Budget()).path(COLLECTION)
    return path


def collect_command(folder: Path, name: str) -> list[object]:
    """Makes what :class:`Collection` has under ``folder``."""
    return ["-m", "synther.datasets.collect", name, "--folder", folder / "collected"]


def spoken(command: Sequence[object]) -> str:
    """A command as it can be given to a shell."""
    return f"python3 {shlex.join(map(str, command))}"


def samples_path(folder: Path, data: str) -> Path:
    """Where the samples of a diffusion model trained on ``data`` lie, or will."""
    return folder / f"diffusion-{data}" / "samples.npz"


def make_samples(folder: Path, data: str) -> None:
    """Samples of a diffusion model trained on ``data``, made where they are missing."""
    samples = samples_path(folder, data)
    if not samples.exists():
        resume = ["--resume"] if (samples.parent / "run.json").exists() else []
        start(
            folder / f"diffusion-{data}.log",
            "synther/diffusion/train_diffuser.py",
            *(
                "--dataset",
                data_set(folder, data),
                "--gin_config_files",
                "config/resmlp_demo_denoiser.gin",
            ),
            *("--results_folder", samples.parent, "--save_num_samples", SAMPLES),
            *("--save_file_name", samples.name, "--threads", 1, *resume),
        )


def agent_command(folder: Path, run: Run) -> list[object]:
    """Trains the agents of ``run``."""
    updates = UPDATES[run.algorithm]
    env = "--env_name" if run.algorithm == "edac" else "--env"
    return [
        f"synther/corl/algorithms/{run.algorithm}.py",
        *(env, data_path(folder, run.data), "--name", run.algorithm, "--num_seeds", SEEDS),
        *("--max_timesteps", updates, "--eval_freq", updates // 5, "--n_episodes", 10),
        *("--log_every", updates // 20, "--save_checkpoints", "False"),
        *("--checkpoints_path", folder / "runs" / run.name, "--precision", run.precision),
        *(("--compile", "default") if run.precision == "bf16" else ()),
        *(("--diffusion.path", samples_path(folder, run.data)) if run.synthetic else ()),
    ]


def train(folder: Path, run: Run, preparing: Lock) -> None:
    """Do one run, or what is left of it, and copy its results; ``preparing`` is held while its data
    are made."""
    runs = folder / "runs" / run.name
    if not list(runs.glob("*/result.json")):
        with preparing:
            data_set(folder, run.data)
            if run.synthetic:
                make_samples(folder, run.data)
    finished = trained(runs, folder / "runs" / f"{run.name}.log", agent_command(folder, run))
    target = RESULTS / run.name
    for name in ("result.json", "metrics.jsonl"):
        # Where the folder was on this machine is nobody else's business.
        text = (finished / name).read_text(encoding="utf-8")
        atomic.write_text(target / name, text.replace(str(folder), "offline_learning"))


def table() -> Table:
    """Last normalised score of each finished run, mean and standard error over seeds."""
    rows = Table(title=f"Normalised score after the last update, {SEEDS} seeds, mean +- s.e.")
    for heading in ("algorithm", "data", "precision", "real", "SynthER"):
        rows.add_column(heading)
    for run in (each for each in study() if not each.synthetic):
        cells = []
        for each in (run, replace(run, synthetic=True)):
            path = RESULTS / each.name / "result.json"
            result = json.loads(path.read_text()) if path.exists() else None
            cells.append(
                f"{result['mean']:.1f} +- {result['standard_error']:.1f}" if result else "..."
            )
        rows.add_row(run.algorithm, run.data, run.precision, *cells)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Learning checks of the offline algorithms.")
    parser.add_argument("--folder", type=Path, default=Path("offline_learning"))
    add_workers(parser)
    parser.add_argument("--runs", default="*", help="names, comma-separated, with wildcards")
    options = parser.parse_args()
    wanted = chosen(parser, "--runs", options.runs, {run.name: run for run in study()})
    folder = options.folder.resolve()
    preparing = {run.data: Lock() for run in wanted}
    jobs = [functools.partial(train, folder, run, preparing[run.data]) for run in wanted]
    do_all(jobs, options.workers)
    console.print(table())


if __name__ == "__main__":
    with command_errors(resume=False):
        main()

"""Which synthetic rows teach an agent as well as real ones, and which measure says so?

    python3 benchmarks/row_quality.py [--folder row_quality] [--workers 2] [--only 'halfcheetah*']
    python3 benchmarks/row_quality.py --dry-run      # every command, and nothing done
    python3 benchmarks/row_quality.py --table        # from the results that are there

Each result is written as soon as it is there, and what is finished is left alone, so that the study
can be stopped and started again. What it computes is fixed here, before its first run:

**Arms.** A diffusion model of the data set, in the coordinates of 2023 or in the new ones
(``construct_diffusion_model.normalizer_type``), with and without the last stage that makes rows
consistent, at the demo's size (width 256, 4 layers, 8 000 steps) and at a larger one (width 512,
6 layers, 20 000 steps), from 3 generator seeds; 100 000 rows of each. Beside them the real rows,
and the natural rival: real observations and actions with what regressions predict for them, as
one-step models of model-based RL have them.

**Agents.** TD3+BC and IQL, 4 stacked seeds: 12 000 updates on the HalfCheetah replay, 6 000 on
``hopper-demo-v0``, evaluated 12 times with 10 episodes for each seed.

**Score** of a run and seed: the mean of its last three evaluations, normalised.

**No worse than real rows**: the 95 % interval of the difference of the means (arm minus real,
Welch's t over all seeds of all generators) contains 0 or lies above it. **Better than today's
rows**: the interval of the difference to the coordinates of 2023 without the last stage lies above
0. Everything else is reported as neither. Agents of one generator are more alike than those of two,
which these intervals leave out: beside them stands the error over the generators' means, and the
interval of the difference by these alone (added after the first results).

**A measure predicts** as far as its rank correlation (Spearman) with the mean score over the arms
of a data set is near 1 or -1; it is printed with the number of arms.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from offline_learning import (
    COLLECTED,
    COLLECTION,
    SEEDS,
    SHIPPED,
    collect_command,
    data_path,
    data_set,
    is_trained,
    spoken,
    start,
    trained,
)
from rich.console import Console
from row_quality_results import ALGORITHMS, RESULTS, rank_correlations, read_results, table
from studies import add_workers, chosen, do_all, processor

from synther.datasets import load_dataset
from synther.diffusion.successors import fit_ensemble
from synther.files import atomic
from synther.runs.commands import command_errors
from synther.runs.loggers import read_metrics
from synther.transitions import Transitions

Coordinates = Literal["2023", "new", "one-step"]
"""``one-step`` is no model: real observations and actions, and regressions of what follows."""
Consistency = Literal["off", "ensemble"]
NORMALIZERS: dict[str, tuple[str, str]] = {
    "2023": ("standard", "True"),
    "new": ("transitions", "False"),
}
"""By coordinates: ``normalizer_type``, and whether the terminal is left alone."""
SIZES = {
    "demo": (256, 4, 8_000),
    "larger": (512, 6, 20_000),
}
"""By name: width, layers, and training steps."""
UPDATES = {SHIPPED: 6_000, COLLECTED: 12_000}
GENERATOR_SEEDS = (0, 1, 2)
SAMPLES = 100_000
EVALUATIONS, LAST = 12, 3
console = Console(width=160, soft_wrap=True, markup=False, highlight=False)


@dataclass(frozen=True)
class Rows:
    """The rows that an agent learns from; ``coordinates`` is None for the real ones."""

    data: str
    coordinates: Coordinates | None = None
    consistency: Consistency = "off"
    size: str = "demo"
    seed: int = 0

    @property
    def model(self) -> str:
        return f"{self.data}-{self.coordinates}-{self.size}-s{self.seed}"

    @property
    def arm(self) -> str:
        """The name of the arm, whatever the generator's seed."""
        if self.coordinates is None:
            return f"{self.data}-real"
        return f"{self.data}-{self.coordinates}-{self.consistency}-{self.size}"


@dataclass(frozen=True)
class Run:
    """One algorithm on some rows."""

    algorithm: str
    rows: Rows

    @property
    def name(self) -> str:
        seed = "" if self.rows.coordinates is None else f"-s{self.rows.seed}"
        return f"{self.rows.arm}{seed}-{self.algorithm}"


def study() -> list[Run]:
    """All runs; those that say most first, because a study may be cut off."""
    runs = []
    for size, seed, algorithm, data in itertools.product(
        SIZES, GENERATOR_SEEDS, ALGORITHMS, (COLLECTED, SHIPPED)
    ):
        if size == "demo" and seed == 0:
            runs.append(Run(algorithm, Rows(data)))
        for consistency, coordinates in itertools.product(("off", "ensemble"), NORMALIZERS):
            runs.append(Run(algorithm, Rows(data, coordinates, consistency, size, seed)))  # type: ignore[arg-type]
        if size == "demo":
            runs.append(Run(algorithm, Rows(data, "one-step", "ensemble", size, seed)))
    return runs


def coordinate_bindings(coordinates: str) -> tuple[str, str]:
    """What gin is bound to for a model in these coordinates."""
    normalizer, disabled = NORMALIZERS[coordinates]
    return (
        f"construct_diffusion_model.normalizer_type='{normalizer}'",
        f"construct_diffusion_model.disable_terminal_norm={disabled}",
    )


def model_command(rows: Rows, data: str, folder: Path) -> list[object]:
    """Trains the model of ``rows``; it writes no samples."""
    width, layers, steps = SIZES[rows.size]
    return [
        "synther/diffusion/train_diffuser.py",
        *("--dataset", data, "--gin_config_files", "config/resmlp_demo_denoiser.gin"),
        *("--gin_params", *coordinate_bindings(rows.coordinates)),  # type: ignore[arg-type]
        *(f"ResidualMLPDenoiser.mlp_width={width}", f"ResidualMLPDenoiser.num_layers={layers}"),
        f"Trainer.train_num_steps={steps}",
        *("--results_folder", folder / rows.model, "--seed", rows.seed, "--threads", 1),
    ]


def training_command(rows: Rows, data: str, folder: Path) -> list[object]:
    """Trains the model of ``rows`` and leaves the samples to :func:`sample_command`."""
    return [*model_command(rows, data, folder), "--no_save_samples"]


def sample_command(rows: Rows, data: str, folder: Path) -> list[object]:
    """Samples from the model of ``rows``, with or without the last stage."""
    return [
        *model_command(rows, data, folder),
        *("--load_checkpoint", "--save_num_samples", SAMPLES),
        *("--save_file_name", f"{rows.consistency}.npz", "--consistency", rows.consistency),
    ]


def agent_command(run: Run, data: str, folder: Path) -> list[object]:
    """Trains the agents of ``run``."""
    updates, rows = UPDATES[run.rows.data], run.rows
    samples = folder / rows.model / f"{rows.consistency}.npz"
    return [
        f"synther/corl/algorithms/{run.algorithm}.py",
        *("--env", data, "--name", run.algorithm, "--num_seeds", SEEDS),
        *("--max_timesteps", updates, "--eval_freq", updates // EVALUATIONS, "--n_episodes", 10),
        *("--log_every", updates // EVALUATIONS, "--save_checkpoints", "False"),
        *("--checkpoints_path", folder / "runs" / run.name),
        *(() if rows.coordinates is None else ("--diffusion.path", samples)),
    ]


def one_step_rows(real: Transitions, seed: int) -> Transitions:
    """Real observations and actions; what follows is drawn from regressions of the real rows."""
    ensemble = fit_ensemble(real, seed=seed)
    observations, actions = (torch.from_numpy(each) for each in (real.observations, real.actions))
    chance = torch.rand(2, len(real), generator=torch.Generator().manual_seed(seed))
    prediction = ensemble.predict(observations, actions)
    smooth = ensemble.drawn(prediction, chance[0])
    successors = np.column_stack([real.next_observations, real.rewards, real.terminals])
    successors[:, ensemble.smooth] = smooth.numpy()
    flags = ensemble.columns_of("flag")
    raised = chance[1][:, None] < ensemble.flag_probabilities(observations, actions, smooth)
    low, high = ensemble.values[:, flags]
    successors[:, flags] = torch.where(raised, high, low).numpy()
    following, rewards, terminals = np.split(successors, [-2, -1], axis=1)
    return replace(
        real,
        next_observations=following,
        rewards=rewards[:, 0],
        terminals=terminals[:, 0],
        metadata={**real.metadata, "source": "one-step regressions on real rows"},
    )


def sampled(folder: Path, rows: Rows, data: str) -> None:
    """Model, samples and their measures, made where they are missing."""
    home = folder / rows.model
    if rows.coordinates == "one-step":
        home.mkdir(parents=True, exist_ok=True)
        if not (path := home / f"{rows.consistency}.npz").exists():
            one_step_rows(load_dataset(data), rows.seed).save(path)
        return
    *_, steps = SIZES[rows.size]
    if not is_trained(home, steps):
        resume = ["--resume"] if (home / "run.json").exists() else []
        words = [*training_command(rows, data, folder), *resume]
        start(folder / f"{rows.model}.log", *words)  # type: ignore[arg-type]
    measures = home / f"{rows.consistency}.json"
    # Samples without their measures are made again: those in the folder may be of other samples.
    if not ((home / f"{rows.consistency}.npz").exists() and measures.exists()):
        log = folder / f"{rows.model}-{rows.consistency}.log"
        start(log, *sample_command(rows, data, folder))  # type: ignore[arg-type]
        atomic.write_text(measures, (home / "fidelity.json").read_text(encoding="utf-8"))


def do(folder: Path, run: Run, preparing: Lock) -> None:
    """Do one run, or what is left of it, and write its result; ``preparing`` is held while its rows
    are made, which another run may want as well."""
    target = RESULTS / f"{run.name}.json"
    if target.exists():
        return
    started = time.time()
    with preparing:
        data = data_set(folder, run.rows.data)
        if run.rows.coordinates is not None:
            sampled(folder, run.rows, data)
    runs = folder / "runs" / run.name
    command = agent_command(run, data, folder)
    finished = trained(runs, folder / "runs" / f"{run.name}.log", command)
    measures = folder / run.rows.model / f"{run.rows.consistency}.json"
    atomic.write_json(target, {
        "arm": run.rows.arm, "algorithm": run.algorithm, "generator_seed": run.rows.seed,
        "scores": last_scores(finished).tolist(),
        "measures": json.loads(measures.read_text()) if measures.exists() else None,
        "seconds": round(time.time() - started), "processor": processor(),
        # Where the folder was on this machine is nobody else's business.
        "command": " ".join(map(str, command)).replace(str(folder), "row_quality"),
    })  # fmt: skip


def planned(folder: Path, runs: Iterable[Run]) -> list[str]:
    """Lines for a shell that do all that the study does for these runs, each of them once."""
    lines = []
    for run in runs:
        rows, data = run.rows, data_path(folder, run.rows.data)
        home = folder / rows.model
        if rows.data == COLLECTED:
            lines.append(spoken(collect_command(folder, COLLECTION)))
        if rows.coordinates == "one-step":
            lines.append(spoken(_one_step_command(rows, data, home)))
        elif rows.coordinates is not None:
            lines.append(spoken(training_command(rows, data, folder)))
            lines.append(spoken(sample_command(rows, data, folder)))
            measures = (home / "fidelity.json", home / f"{rows.consistency}.json")
            lines.append(shlex.join(["cp", *map(str, measures)]))
        lines.append(spoken(agent_command(run, data, folder)))
    return list(dict.fromkeys(lines))


def _one_step_command(rows: Rows, data: str, home: Path) -> list[object]:
    """What :func:`sampled` does itself."""
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); "
        "from row_quality import load_dataset, one_step_rows; "
        f"one_step_rows(load_dataset({data!r}), {rows.seed})"
        f".save({str(home / f'{rows.consistency}.npz')!r})"
    )
    return ["-c", code]


def last_scores(run: Path) -> NDArray[np.float64]:
    """The score of each seed ``[S]``: the mean of its last evaluations."""
    mean: NDArray[np.float64] = evaluations(run)[-LAST:].mean(axis=0)
    return mean


def evaluations(run: Path) -> NDArray[np.float64]:
    """The score at each evaluation and of each seed, ``[E, S]``."""
    seeds = json.loads((run / "result.json").read_text())["seeds"]
    keys = [f"eval_score/s{seed}" for seed in seeds]
    records = [each for each in read_metrics(run / "metrics.jsonl") if keys[0] in each]
    return np.array([[each[key] for key in keys] for each in records])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("row_quality"))
    add_workers(parser)
    parser.add_argument("--only", default="*", help="names, comma-separated, with wildcards")
    parser.add_argument("--dry-run", action="store_true", help="print the commands alone")
    parser.add_argument("--table", action="store_true", help="print the results alone")
    options = parser.parse_args(argv)
    folder = options.folder.resolve()
    wanted = chosen(parser, "--only", options.only, {run.name: run for run in study()})
    if options.dry_run:
        console.print("\n".join(planned(options.folder, wanted)))
        return
    if not options.table:
        preparing = {run.rows.data: Lock() for run in wanted}
        jobs = [functools.partial(do, folder, run, preparing[run.rows.data]) for run in wanted]
        do_all(jobs, options.workers)
    results = read_results()
    console.print(table(results), soft_wrap=False)
    for data, algorithm, name, rho, arms in rank_correlations(results):
        console.print(f"{data}, {algorithm}: {name} against score, rho {rho:+.2f} ({arms} arms)")


if __name__ == "__main__":
    with command_errors(resume=False):
        main()

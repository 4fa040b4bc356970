"""When do synthetic rows help an agent, when do they harm, and when do they change nothing?

    python3 benchmarks/when_does_it_help.py [--plan cheap] [--folder helps] [--workers 2]
    python3 benchmarks/when_does_it_help.py --dry-run     # every command, and nothing done
    python3 benchmarks/when_does_it_help.py --table       # from the results that are there
    python3 benchmarks/when_does_it_help.py --table synther/advise/table.json  # and for `advise`
    python3 benchmarks/when_does_it_help.py --figure      # figure, page, the README's table

Each result is written as soon as it is there, and what is finished is left alone, so that the study
can be stopped and started again. What it computes is fixed here, before its first run:

**Data.** Those of ``python3 -m synther.datasets.collect`` with its default budget (seed 0), on
which the return of the behaviour itself is known. A *cell* is a data set, a share of its rows (2,
5, 15, 50 or 100 %, drawn at random, as in the paper), an algorithm and a kind of rows.

**Kinds of rows.** ``new``: samples of a model in the new coordinates, made consistent by the last
stage; ``2023``: samples of a model in the coordinates of 2023, as they come; ``mixed``: batches of
which half are real rows and half ``new`` ones (``--diffusion.mix 0.5``). The model sees the cell's
rows alone; 100 000 samples. It has the demo's size (width 256, 4 layers, 8 000 steps).

**Agents.** 4 stacked seeds with the algorithm's defaults; TD3+BC and IQL 10 000 updates; EDAC
24 000 and CQL 20 000, on two cells, for they learn later, and compiled in bf16, real rows too, for
they would take a CPU twice as long otherwise (EDAC's 40 000 of the first plan, which were never
run to their end, are more than two cores do in three hours for a single cell); ``td3_bc-wide`` has
three layers of 512, the paper's larger network, on two cells. Each run is evaluated 10 times, 10
episodes a seed.

**Score** of a run and seed: the mean of its last three evaluations, normalised. **Gain** of a cell:
the mean score of its agents minus that of the agents that learn from the same rows alone.

**Help**: the 95 % interval of the gain (Welch's t over the seeds of all replicates) lies above 0.
**Harm**: it lies below 0. **Neither**: it contains 0. Nothing is corrected for the number of cells:
one in twenty that is nothing looks like something, and the table says how many there are.

**Long enough**: the curve on real rows is called flat where the mean of its last three evaluations
differs from that of the three before by less than one point, or the 95 % interval of the seeds'
differences (paired t) contains 0. A cell whose real curve is not flat is marked, and kept.

**Plans.** ``cheap``: TD3+BC on two replays, a policy, random data and a maze, ``new`` and
``mixed`` beside real; 36 runs of about 7 minutes and 12 models of about 5 with their pilots, after
two SAC runs of about 8: about three hours of two cores. ``full``: everything above, two replicates
(other rows, model and agents). ``paper``: one cell with the paper's sizes (width 2048, 100 000
steps, 5 000 000 samples, a million updates), for a GPU. ``models``: four replicates of TD3+BC with
2 % of the two replays. It was added when on one of these two replicates had gains of 24 and of 3,
which the seeds of neither explain, and before a third was run; its own figure is Student's interval
over the gains of the four, in which each is one number.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Lock
from typing import Literal

import torch
from help_results import LAST, RESULTS, cells
from help_shown import FIGURE, README, figure, page, table, with_summary
from offline_learning import SEEDS, collect_command, spoken, start, trained
from row_quality import console, coordinate_bindings, evaluations
from studies import add_workers, chosen, do_all, processor

from synther.advise.features import describe, pilot_figures
from synther.datasets import load_dataset
from synther.datasets.collect import NAMES, Budget, Collection
from synther.files import atomic
from synther.files.figures import save_figure
from synther.runs.commands import command_errors
from synther.runs.runtime import CompileMode

Kind = Literal["real", "new", "2023", "mixed"]
KINDS: tuple[Kind, ...] = ("real", "new", "2023", "mixed")
TODAY: tuple[Kind, ...] = ("real", "new", "mixed")
"""All but those of 2023."""
REPLAYS = ("halfcheetah-medium-replay", "hopper-medium-replay")
MIX = 0.5
SHARES = (2, 5, 15, 50, 100)
AGENTS: dict[str, tuple[str, int, tuple[object, ...]]] = {
    "td3_bc": ("td3_bc", 10_000, ()),
    "iql": ("iql", 10_000, ()),
    "edac": ("edac", 24_000, ()),
    "cql": ("cql", 20_000, ()),
    "td3_bc-wide": ("td3_bc", 10_000, ("--network_width", 512, "--network_depth", 3)),
    "td3_bc-paper": ("td3_bc", 1_000_000, ()),
}
"""By the name in the results: the command, its updates, and flags of its own."""
MODELS: dict[str, tuple[str, int]] = {
    "demo": ("config/resmlp_demo_denoiser.gin", 100_000),
    "paper": ("config/resmlp_transitions_denoiser.gin", 5_000_000),
}
"""By size: the gin file and the number of samples."""
GRAPHS: dict[str, CompileMode] = {"demo": "cudagraph", "paper": "max"}
"""By size, on a GPU: the same updates, several times as many a second."""
LATE = ("edac", "cql")
"""Those that learn late: they are in bf16, and compiled on a CPU as well."""
EVALUATIONS = 10
LATE_CELLS = (("halfcheetah-medium-replay", 15), ("halfcheetah-medium-replay", 100))
"""The two cells of EDAC, CQL and the larger network."""


@dataclass(frozen=True)
class Run:
    """One algorithm on some rows of a data set; ``share`` in percent."""

    data: str
    share: int
    kind: Kind
    algorithm: str = "td3_bc"
    replicate: int = 0

    @property
    def task(self) -> str:
        return self.data.split("-")[0]

    @property
    def rows(self) -> str:
        """The name of the real rows that the run, or its model, learns from."""
        return f"{self.data}-{self.share}pct-r{self.replicate}"

    @property
    def size(self) -> str:
        return "paper" if self.algorithm.endswith("-paper") else "demo"

    @property
    def model(self) -> str:
        """The name of the model; one serves ``new`` and ``mixed``."""
        return f"{self.rows}-{'2023' if self.kind == '2023' else 'new'}-{self.size}"

    @property
    def name(self) -> str:
        return f"{self.rows}-{self.kind}-{self.algorithm}"


def cheap() -> list[Run]:
    """What says most for three hours of two cores, first; neighbours are of different tasks, so
    that one worker does not wait for what the other one prepares."""
    data = (*REPLAYS, "maze2d-umaze", "walker2d-random", "hopper-medium")
    cells = (*itertools.product((15, 2), TODAY, data), *itertools.product((100,), TODAY, REPLAYS))
    return [Run(name, share, kind) for share, kind, name in cells]


def full() -> list[Run]:
    """Everything, one replicate after the other."""
    data = [name for name in NAMES if not name.endswith("-expert") or "medium-expert" in name]
    data = [name for name in data if name not in ("maze2d-medium", "maze2d-large")]
    runs = []
    for replicate in (0, 1):
        cells = itertools.product(("td3_bc", "iql"), data, SHARES)
        for algorithm, name, share in cells:
            runs += [Run(name, share, kind, algorithm, replicate) for kind in KINDS]
        for algorithm, (name, share) in itertools.product(("td3_bc-wide", *LATE), LATE_CELLS):
            runs += [Run(name, share, kind, algorithm, replicate) for kind in KINDS]
    return runs


def paper() -> list[Run]:
    """One cell with the paper's sizes."""
    return [Run("halfcheetah-medium-replay", 100, kind, "td3_bc-paper") for kind in KINDS]


def models() -> list[Run]:
    """The cells with the fewest rows again and again, each time with other rows."""
    cells = itertools.product(range(4), TODAY, REPLAYS)
    return [Run(data, 2, kind, replicate=replicate) for replicate, kind, data in cells]


PLANS = {"cheap": cheap, "full": full, "paper": paper, "models": models}


def model_command(run: Run, data: Path, folder: Path) -> list[object]:
    """Trains the model of ``run`` and samples from it."""
    gin_file, samples = MODELS[run.size]
    return [
        "synther/diffusion/train_diffuser.py", "--dataset", data, "--gin_config_files", gin_file,
        "--gin_params", *coordinate_bindings("2023" if run.kind == "2023" else "new"),
        *((f"Trainer.compile='{GRAPHS[run.size]}'",) if torch.cuda.is_available() else ()),
        "--results_folder", folder / run.model, "--seed", run.replicate,
        "--save_num_samples", samples, "--save_file_name", "samples.npz",
        "--consistency", "off" if run.kind == "2023" else "ensemble",
        *(("--threads", 1) if run.size == "demo" else ()),
    ]  # fmt: skip


def agent_command(run: Run, data: Path, folder: Path) -> list[object]:
    """Trains the agents of ``run``."""
    script, updates, flags = AGENTS[run.algorithm]
    samples = folder / run.model / "samples.npz"
    late = run.algorithm in LATE
    mode: CompileMode = "default" if late else "off"
    if torch.cuda.is_available():
        mode = GRAPHS[run.size]
    return [
        f"synther/corl/algorithms/{script}.py", "--env", data, "--name", script,
        "--seed", SEEDS * run.replicate, "--num_seeds", SEEDS, "--max_timesteps", updates,
        "--eval_freq", updates // EVALUATIONS, "--n_episodes", 10,
        "--log_every", updates // EVALUATIONS, "--save_checkpoints", "False",
        "--checkpoints_path", folder / "runs" / run.name, *flags,
        *(("--precision", "bf16") if late else ()),
        *(("--compile", mode) if mode != "off" else ()),
        *(() if run.kind == "real" else ("--diffusion.path", samples)),
        *(("--diffusion.mix", MIX) if run.kind == "mixed" else ()),
    ]  # fmt: skip


def rows_path(folder: Path, run: Run) -> Path:
    """Where the real rows of ``run`` lie, or will."""
    return folder / "rows" / f"{run.rows}.npz"


def part_command(run: Run, folder: Path) -> list[object]:
    """Makes the real rows of ``run``, as :func:`prepare` does itself; what these say of their
    origin is a matter of the study."""
    part = f"load_dataset({str(folder / 'collected' / f'{run.data}.npz')!r})"
    if run.share < 100:
        part += f".split({run.share / 100}, seed={run.replicate})[1]"
    path = rows_path(folder, run)
    return ["-c", f"from synther.datasets import load_dataset; {part}.save({str(path)!r})"]


def planned(folder: Path, runs: Sequence[Run]) -> list[str]:
    """Lines for a shell that do all that the study does for these runs, each of them once."""
    lines = []
    for run in runs:
        data = rows_path(folder, run)
        lines.append(spoken(collect_command(folder, run.data)))
        lines.append(spoken(part_command(run, folder)))
        if run.kind != "real":
            lines.append(spoken(model_command(run, data, folder)))
        lines.append(spoken(agent_command(run, data, folder)))
    return list(dict.fromkeys(lines))


def prepare(folder: Path, run: Run) -> None:
    """The run's real rows, their features, and its samples, made where they are missing."""
    path, features = rows_path(folder, run), RESULTS / f"features-{run.rows}.json"
    if not (path.exists() and features.exists()):
        whole = load_dataset(Collection(folder / "collected", Budget()).path(run.data))
        part = whole
        if run.share < 100:
            _, part = whole.split(run.share / 100, seed=run.replicate)
        known = {"env_id": whole.metadata["env_id"], "dataset": run.rows}
        replace(part, metadata=known).save(path)
        # Random rows do not tell the episodes that they are from; the data set does.
        source = describe(whole)
        episodes = max(1, round((source.episodes or 1) * run.share / 100))
        found = replace(describe(part), episodes=episodes, return_spread=source.return_spread)
        figures = pilot_figures(part, seed=run.replicate)
        keep = ("score", "episode_return", "content_hash", "command")
        if not features.exists():  # those of results that are there stay what they were
            atomic.write_json(features, {
                **replace(found, **figures).to_plain(),
                "behaviour": {key: whole.metadata.get(key) for key in keep},
            })  # fmt: skip
    home = folder / run.model
    if run.kind != "real" and not (home / "samples.npz").exists():
        resume = ["--resume"] if (home / "run.json").exists() else []
        start(folder / f"{run.model}.log", *map(str, model_command(run, path, folder)), *resume)


def do(folder: Path, run: Run, preparing: Lock) -> None:
    """Do one run, or what is left of it, and write its result; ``preparing`` is held while its rows
    are made, which another run may want as well."""
    target = RESULTS / f"{run.name}.json"
    if target.exists():
        return
    started = time.time()
    with preparing:
        prepare(folder, run)
    runs = folder / "runs" / run.name
    command = agent_command(run, rows_path(folder, run), folder)
    curve = evaluations(trained(runs, folder / "runs" / f"{run.name}.log", command))
    atomic.write_json(target, {
        **{field.name: getattr(run, field.name) for field in fields(run)},
        "scores": curve[-LAST:].mean(axis=0).round(3).tolist(), "curve": curve.round(2).tolist(),
        "seconds": round(time.time() - started), "processor": processor(),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        # Where the folder was on this machine is nobody else's business.
        "command": " ".join(map(str, command)).replace(str(folder), "helps"),
    })  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--plan", choices=PLANS, default="cheap")
    add("--folder", type=Path, default=Path("helps"))
    add_workers(parser)
    add("--only", default="*", help="names of runs, comma-separated, with wildcards")
    add("--dry-run", action="store_true", help="print the commands alone")
    add("--table", nargs="?", const="", metavar="PATH",
        help="print the results alone; with PATH also write the table of advise")  # fmt: skip
    add(
        "--figure",
        action="store_true",
        help="draw the results that are there, write their page and the README's table",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    options = parser.parse_args(argv)
    plan = PLANS[options.plan]()
    wanted = chosen(parser, "--only", options.only, {run.name: run for run in plan})
    if options.dry_run:
        console.print("\n".join(planned(options.folder, wanted)))
        return
    if options.table is None and not options.figure:
        folder = options.folder.resolve()
        # By task: the data sets of one share their SAC run.
        preparing = {run.task: Lock() for run in wanted}
        jobs = [functools.partial(do, folder, run, preparing[run.task]) for run in wanted]
        do_all(jobs, options.workers)
    found = cells()
    if (options.table or options.figure) and not found:
        raise SystemExit(f"{RESULTS}: no results, nothing is written; without flags, "
                         "python3 benchmarks/when_does_it_help.py makes them")  # fmt: skip
    console.print(table(found), soft_wrap=False)
    if options.table:
        atomic.write_json(Path(options.table), {"cells": found})
    if options.figure:
        readme = with_summary(README.read_text(encoding="utf-8"), found)
        save_figure(figure(found, list(AGENTS)), FIGURE)
        atomic.write_text(RESULTS.with_suffix(".md"), page(found))
        atomic.write_text(README, readme)


if __name__ == "__main__":
    with command_errors(resume=False):
        main()

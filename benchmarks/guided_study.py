"""Do samples that are asked for something teach an agent more than samples as they come?

    python3 benchmarks/guided_study.py [--folder guided_study] [--workers 2] [--only 'online-*']
    python3 benchmarks/guided_study.py --dry-run      # every job, and nothing done
    python3 benchmarks/guided_study.py --table        # from the results that are there

Each result is written as soon as it is there and never made again, and a run that was cut off goes
on, so that the study can be stopped and started. What it computes is fixed here, before its first
run:

**Online.** Small configurations, 15 000 steps, 6 seeds, on ``cheetah-run-v0``, ``Hopper-v2`` and
``quadruped-walk-v0``, in this order where time is short. Arms without synthetic rows: SAC with 1
update a step, with 20, with 20 and layer norm in its critics, and REDQ. Arms with them: SynthER
with the coordinates of 2023 and no last stage, with today's rows, and with today's rows of a
network that learns a condition and is asked for nothing (equal width); PGR by curiosity, by reward,
and by uniform numbers. Every arm compiles its agent's updates, which changes its time alone.

**Offline.** Whole episodes of ``hopper-demo-v0`` and of a HalfCheetah replay, 5 % and 15 % of the
rows; TD3+BC and IQL, 4 stacked seeds. Arms: the real rows; SynthER with the coordinates of 2023
and no last stage, and with today's rows; these mixed with as many real ones; rows of a network that
learns the return and is asked for nothing (``return-w0``, added after the first cell had run, which
had no control of equal network), and for the top quarter of returns with w = 1 and 2; real rows
augmented under 1.3 times their return (GTA); and
4 000 of today's rows at a time, which each agent makes six times, over the four agents about as
many as other arms' 100 000: unguided, and but for the first time guided to its own policy with
strength 1 (PGD).

**Score** of a run: the mean of its last three evaluations; offline it is normalised.

**What counts.** Two arms are compared by the probability of improvement over the tasks that both
have, with a 95 % interval (stratified bootstrap, as ``synther/report.py`` has it): *better* or
*worse* where the interval leaves 1/2 on one side, *neither* otherwise. An idea helps where its arm
is better than **each** of its controls: online SAC with 20 updates and layer norm, consistent
SynthER, the equal-width network and PGR by uniform numbers; offline the real rows, today's SynthER
rows and those of the network that is asked for nothing, of PGD also rows that are as fresh and
unguided. Every arm is printed with its interquartile mean and its wall-clock time, which is that of
the agents' run alone: offline models and samples are made before it. Nulls are printed too.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from guided_study_rows import LABELS, rows_for, share_of, source_of
from offline_learning import COLLECTED, REPOSITORY, SEEDS, SHIPPED, start, trained
from rich.table import Table
from row_quality import console, coordinate_bindings, last_scores
from studies import add_workers, chosen, do_all, processor

from synther.files import atomic
from synther.reports.statistics import estimate, improvement, interquartile_mean
from synther.runs.commands import command_errors
from synther.runs.loggers import read_metrics

RESULTS = REPOSITORY / "benchmarks/results/guided_study"
TASKS = ("cheetah-run-v0", "Hopper-v2", "quadruped-walk-v0")
ONLINE_SEEDS = range(6)
STEPS, LAST = 15_000, 3
COMPILED = ("redq_sac.compile = 'default'",)
PLAIN = ("redq_sac.relevance = 'curiosity'", "redq_sac.guidance = 0")
OLD_ROWS = (
    *coordinate_bindings("2023"),
    "SimpleDiffusionGenerator.consistency = 'off'",
)
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SAC": ("sac", ()),
    "SAC-20": ("sac", ("redq_sac.utd_ratio = 20",)),
    "SAC-20-LN": ("sac", ("redq_sac.utd_ratio = 20", "redq_sac.critic_layer_norm = True")),
    "REDQ": ("redq", ()),
    "SynthER-2023": ("synther", OLD_ROWS),
    "SynthER": ("synther", ()),
    "SynthER-equal-width": ("pgr", PLAIN),
    "PGR-curiosity": ("pgr", ()),
    "PGR-reward": ("pgr", ("redq_sac.relevance = 'reward'",)),
    "PGR-random": ("pgr", ("redq_sac.relevance = 'random'",)),
}
"""By name: which small configuration, and what goes over it."""
CONTROLS = {
    "online": ("SAC-20-LN", "SynthER", "SynthER-equal-width", "PGR-random"),
    "offline": ("real", "SynthER", "return-w0", "refreshed"),
}
SHARES = (0.05, 0.15)
UPDATES = {SHIPPED: 6_000, COLLECTED: 12_000}
EVALUATIONS = 12


@dataclass(frozen=True)
class Job:
    """One run of the study: online ``seed`` is one seed; offline all of them are one stack.

    Args:
        kind: ``online`` or ``offline``.
        arm: of ``ARMS``, or of ``guided_study_rows.LABELS``.
        task: the environment, or the data set and its share, such as ``hopper-demo-v0-5``.
        algorithm: offline, the algorithm's file.
        seed: online.
    """

    kind: str
    arm: str
    task: str
    algorithm: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.kind, self.task, self.algorithm, self.arm)))

    @property
    def file(self) -> str:
        return f"{self.name}-s{self.seed}" if self.kind == "online" else self.name


def study() -> list[Job]:
    """All jobs: task by task and seed by seed, so that what time allows can be compared."""
    online = [
        Job("online", arm, task, seed=seed)
        for task, seed, arm in itertools.product(TASKS, ONLINE_SEEDS, ARMS)
    ]
    offline = [
        Job("offline", arm, f"{data}-{share:.0%}".rstrip("%"), algorithm)
        for data, share, algorithm, arm in itertools.product(
            (SHIPPED, COLLECTED), SHARES, ("td3_bc", "iql"), LABELS
        )
    ]
    return [*online, *offline]


def online_command(job: Job, folder: Path) -> list[object]:
    """Trains the agent of an online job."""
    kind, bindings = ARMS[job.arm]
    suite = "" if kind in ("sac", "redq") else "_openai" if job.task == "Hopper-v2" else "_dmc"
    gin_file = f"config/online/{'sac_' if suite else ''}{kind}{suite}_small.gin"
    return [
        "synther/online/online_exp.py",
        *("--env", job.task, "--seed", job.seed, "--exp_name", job.arm, "--threads", 1),
        *("--results_folder", folder / "online", "--gin_config_files", gin_file),
        *("--gin_params", f"redq_sac.epochs = {STEPS // 1000}", *COMPILED, *bindings),
    ]


def offline_command(job: Job, folder: Path) -> list[object]:
    """Trains the agents of an offline job."""
    data = job.task.rsplit("-", 1)[0]
    every = UPDATES[data] // EVALUATIONS
    return [
        f"synther/corl/algorithms/{job.algorithm}.py",
        *("--env", folder / f"{job.task}.npz", "--name", job.algorithm, "--num_seeds", SEEDS),
        *("--max_timesteps", UPDATES[data], "--eval_freq", every, "--n_episodes", 10),
        *("--log_every", every, "--save_checkpoints", "False"),
        *("--checkpoints_path", folder / "runs" / job.name),
        *source_of(folder, job.task, LABELS[job.arm], UPDATES[data]),
    ]


def online_scores(job: Job, folder: Path, log: Path) -> tuple[list[float], float]:
    """Run an online job, or what is left of it; its score and its seconds in all."""
    name = f"{job.arm}_{job.task}"
    home = folder / "online" / name / f"{name}_s{job.seed}"
    if len(read_metrics(home / "metrics.jsonl")) < STEPS // 1000:
        start(log, *online_command(job, folder), "--resume")  # type: ignore[arg-type]
    epochs = read_metrics(home / "metrics.jsonl")
    score = float(np.mean([each["AverageTestEpRet"] for each in epochs[-LAST:]]))
    return [score], epochs[-1]["Time"]


def offline_scores(job: Job, folder: Path, log: Path, preparing: Lock) -> tuple[list[float], float]:
    """Run an offline job, or what is left of it; the score of each seed, and the seconds of what
    was run. ``preparing`` is held while its rows are made, which another job may want as well."""
    with preparing:
        share_of(folder, job.task)
        rows_for(folder, job.task, LABELS[job.arm])
    started = time.time()
    runs = folder / "runs" / job.name
    scores = last_scores(trained(runs, log, offline_command(job, folder))).tolist()
    return scores, time.time() - started


def do(folder: Path, job: Job, preparing: Lock) -> None:
    """Do one job and write its result; nothing where that is there."""
    target = RESULTS / f"{job.file}.json"
    if target.exists():
        return
    log = folder / "logs" / f"{job.file}.log"
    if job.kind == "online":
        (scores, seconds), command = online_scores(job, folder, log), online_command(job, folder)
    else:
        scores, seconds = offline_scores(job, folder, log, preparing)
        command = offline_command(job, folder)
    atomic.write_json(target, {
        "kind": job.kind, "task": "-".join(filter(None, (job.task, job.algorithm))),
        "arm": job.arm, "scores": scores, "seconds": round(seconds),
        "processor": processor(),
        # Where the folder was on this machine is nobody else's business.
        "command": " ".join(map(str, command)).replace(str(folder), "guided_study"),
    })  # fmt: skip


Scores = dict[str, dict[str, list[float]]]


def read_results(kind: str) -> tuple[Scores, dict[str, float]]:
    """Scores by arm and task, and the median seconds of each arm, of the results that are there."""
    scores: Scores = {}
    seconds: dict[str, list[float]] = {}
    for path in sorted(RESULTS.glob(f"{kind}-*.json")):
        found = json.loads(path.read_text())
        scores.setdefault(found["arm"], {}).setdefault(found["task"], []).extend(found["scores"])
        seconds.setdefault(found["arm"], []).append(found["seconds"])
    # The median: a machine that was stopped, or busy with other work, made single runs last longer.
    return scores, {arm: float(np.median(each)) for arm, each in seconds.items()}


def compared(scores: Scores, arm: str, control: str) -> str:
    """Probability that ``arm`` is better than ``control``, and the pre-registered word for it."""
    tasks = sorted(scores.get(arm, {}).keys() & scores.get(control, {}).keys())
    if arm == control or not tasks:
        return ""
    pairs = [np.array(scores[each][task]) for each in (arm, control) for task in tasks]
    found = estimate(improvement, pairs)
    if found.interval is None:
        return f"{found.value:.2f}"
    low, high = found.interval
    word = "better" if low > 0.5 else "worse" if high < 0.5 else "neither"
    return f"{found.value:.2f} [{low:.2f}, {high:.2f}] {word}"


def table(kind: str) -> Table:
    """Each arm's interquartile mean, time, and comparison with each control."""
    scores, seconds = read_results(kind)
    shown = Table(title=f"{kind}: interquartile mean; probability of improvement over controls")
    for heading in ("arm", "IQM", "runs", "minutes a run", *CONTROLS[kind]):
        shown.add_column(heading)
    for arm in ARMS if kind == "online" else LABELS:
        if arm not in scores:
            continue
        each = [np.array(values) for values in scores[arm].values()]
        found = estimate(interquartile_mean, each)
        interval = "" if found.interval is None else " [{:.1f}, {:.1f}]".format(*found.interval)
        shown.add_row(
            arm,
            f"{found.value:.1f}{interval}",
            str(sum(map(len, each))),
            f"{seconds[arm] / 60:.1f}",
            *(compared(scores, arm, control) for control in CONTROLS[kind]),
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("guided_study"))
    add_workers(parser)
    parser.add_argument("--only", default="*", help="pattern of the jobs, such as 'online-*'")
    parser.add_argument("--dry-run", action="store_true", help="print the jobs and do nothing")
    parser.add_argument("--table", action="store_true", help="print what is there and do nothing")
    args = parser.parse_args()
    folder = args.folder.resolve()
    jobs = chosen(parser, "--only", args.only, {job.file: job for job in study()})
    if args.dry_run:
        for job in jobs:
            command = online_command if job.kind == "online" else offline_command
            console.print(f"{job.file}: {' '.join(map(str, command(job, args.folder)))}")
        return
    if not args.table:
        RESULTS.mkdir(parents=True, exist_ok=True)
        preparing = Lock()
        do_all([functools.partial(do, folder, job, preparing) for job in jobs], args.workers)
    for kind in CONTROLS:
        console.print(table(kind))


if __name__ == "__main__":
    with command_errors(resume=False):
        main()

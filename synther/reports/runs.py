"""Runs are read from any folders that the RL commands wrote, or from the folder of a study.

A run is found by its own files alone. In the folder of a study, ``plan.json`` also names the runs
that have not been started.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from synther.datasets.files import stem_of
from synther.envs import normalized_score, reference_scores
from synther.reports.experiments import (
    UNKNOWN,
    Experiment,
    of_config,
    require_once,
    told_apart,
)
from synther.reports.progress import offline_result, online_steps, read_object
from synther.runs.folder import PREVIOUS
from synther.runs.loggers import read_metrics

Measure = Literal["score", "return"]
_LABELS = {"td3_bc": "TD3+BC", "iql": "IQL", "edac": "EDAC", "cql": "CQL"}
_KEYS = {"policy_noise": "TD3+BC", "iql_tau": "IQL", "num_critics": "EDAC", "cql_temp": "CQL"}
"""How runs and plans are named that are older than the entry ``algorithm``: by the algorithm's
file, and by a setting that only this algorithm has. A newer algorithm needs no entry here."""
_PLAIN_NAMES = {"run", "real", "synther", *_LABELS}


@dataclass(frozen=True)
class Run:
    """One agent's training.

    Attributes:
        task: data set, or environment where it learned online.
        method: what learned: ``TD3+BC``, ``TD3+BC (large) + SynthER``, ``SAC``.
        seed: of the agent.
        measure: ``score`` is D4RL's normalised one.
        steps: ``[T]``, updates or environment steps of each evaluation.
        values: ``[T]``, mean score or return of each.
        online: whether it collected its own data.
        path: its folder.
        experiment: what else has to be the same where seeds are averaged.
    """

    task: str
    method: str
    seed: int
    measure: Measure
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    online: bool
    path: Path
    experiment: Experiment = UNKNOWN

    @property
    def last(self) -> float:
        return float(self.values[-1])

    @property
    def best(self) -> float:
        return float(self.values.max())


@dataclass(frozen=True)
class Unfinished:
    """A run that is in no number of a report, and why."""

    name: str
    task: str
    method: str
    state: str
    online: bool = False
    experiment: Experiment = UNKNOWN


@dataclass(frozen=True)
class Runs:
    """What was found in some folders."""

    finished: tuple[Run, ...]
    unfinished: tuple[Unfinished, ...]


def read_runs(folders: Iterable[Path]) -> Runs:
    """All runs in some folders, and in the folders in them.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a run is there twice: the same task, method and seed.
    """
    found_runs: list[Run] = []
    unfinished: list[Unfinished] = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
        begun = set()
        for found in _in(folder):
            begun.add(str(found.path if isinstance(found, Run) else folder / found.name))
            if isinstance(found, Unfinished):
                unfinished.append(_with_reason(folder, found))
            else:
                found_runs.append(found)
        unfinished += _not_begun(folder, begun)
    found_runs, unfinished = told_apart(found_runs, unfinished)
    require_once(found_runs)
    ordered = sorted(found_runs, key=lambda run: (run.task, run.method, run.seed))
    return Runs(tuple(ordered), tuple(sorted(unfinished, key=lambda each: each.name)))


def _in(folder: Path) -> Iterator[Run | Unfinished]:
    """The runs that were begun; what a later run has moved to ``previous-1`` is left out.

    A run that cannot be read, or whose evaluations are not all finite, is one of the unfinished.
    """
    files = [path for name in ("config.yaml", "result.json", "run.json")
             for path in folder.rglob(name)]  # fmt: skip
    for file in sorted(files):
        name = file.parent.relative_to(folder)
        if any(PREVIOUS.fullmatch(part) for part in name.parts):
            continue
        try:
            yield from (_finite(each, folder) for each in _of(file, folder))
        except (AttributeError, KeyError, TypeError, ValueError, OSError, yaml.YAMLError) as error:
            missing = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            yield Unfinished(str(name), "?", "?", f"cannot be read ({missing:.200})")


def _of(file: Path, folder: Path) -> Iterator[Run | Unfinished]:
    """The runs that one of their files tells of."""
    run = file.parent
    if file.name == "run.json":
        settings = read_object(file)
        if settings and {"env", "seed"} <= settings.keys():
            yield from _online(run, settings, folder)
        return
    result = offline_result(run)
    if file.name == "result.json" and result and "config" in result:
        yield from _offline(run, result)
    elif file.name == "config.yaml" and result is None:
        yield _offline_part(run, folder)


def _finite(found: Run | Unfinished, folder: Path) -> Run | Unfinished:
    """The same, where every evaluation gave a number: no mean can be taken of others."""
    if isinstance(found, Unfinished) or np.isfinite(found.values).all():
        return found
    first = int(np.flatnonzero(~np.isfinite(found.values))[0])
    return Unfinished(
        name=f"{found.path.relative_to(folder)}, seed {found.seed}",
        task=found.task,
        method=found.method,
        state=f"its {found.measure} at step {found.steps[first]} is {found.values[first]}",
        online=found.online,
        experiment=found.experiment,
    )


def _offline(run: Path, result: Mapping[str, Any]) -> Iterator[Run]:
    seeds, config = result["seeds"], result["config"]
    experiment = of_config(config, result["steps"], str(result.get("eval_env") or ""))
    # The reference scores are of the environment without arguments.
    unscored = result["last_score"] is None or experiment.arguments
    measure: Measure = "return" if unscored else "score"
    records = read_metrics(run / "metrics.jsonl")
    for index, seed in enumerate(seeds):
        key = f"eval_{measure}" + (f"/s{seed}" if len(seeds) > 1 else "")
        evaluations = {each["step"]: each[key] for each in records if key in each}
        # The result is what counts: without the curve beside it, a run is its last point alone.
        last = result[f"last_{measure}"][index]
        evaluations = {**evaluations, result["steps"]: last}
        yield Run(
            task=stem_of(config["env"]),
            method=_method(config),
            seed=seed,
            measure=measure,
            steps=np.array(list(evaluations)),
            values=np.array(list(evaluations.values()), np.float64),
            online=False,
            path=run,
            experiment=experiment,
        )


def _offline_part(run: Path, folder: Path) -> Unfinished:
    content = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    nested = content.pop("diffusion", {})
    config = {**content, **{f"diffusion.{key}": value for key, value in nested.items()}}
    steps = [each["step"] for each in read_metrics(run / "metrics.jsonl")]
    return Unfinished(
        name=str(run.relative_to(folder)),
        task=stem_of(config["env"]),
        method=_method(config),
        state=f"stopped or running, {max(steps, default=0)} of {config['max_timesteps']} updates",
        experiment=of_config(config, config["max_timesteps"]),
    )


def _online(run: Path, settings: Mapping[str, Any], folder: Path) -> Iterator[Run | Unfinished]:
    env, seed = settings["env"], settings["seed"]
    in_names = env.replace("/", "_").replace(":", "_")
    method = run.name.removesuffix(f"_s{seed}").removesuffix(f"_{in_names}")
    step, total = online_steps(run)
    arguments = str(settings.get("env_kwargs") or "")
    experiment = Experiment(arguments=arguments, length=total, settings=settings)
    if step < total or not total:
        state = f"stopped or running, {step} of {total} environment steps"
        yield Unfinished(str(run.relative_to(folder)), env, method, state, True, experiment)
        return
    epochs = [e for e in read_metrics(run / "metrics.jsonl") if "AverageTestEpRet" in e]
    returns = np.array([each["AverageTestEpRet"] for each in epochs], np.float64)
    scored = reference_scores(env) is not None and not arguments
    yield Run(
        task=env,
        method=method,
        seed=seed,
        measure="score" if scored else "return",
        steps=np.array([each["step"] for each in epochs]),
        values=normalized_score(env, returns) if scored else returns,
        online=True,
        path=run,
        experiment=experiment,
    )


def _with_reason(folder: Path, run: Unfinished) -> Unfinished:
    """The same, with the reason of the job's state file where it is a study's job that failed."""
    for parent in (folder / run.name).parents:
        if parent == folder:
            break
        job = read_object(parent / "state.json") or {}
        if job.get("state") == "failed":
            return replace(run, state=f"failed: {job.get('reason')}; {run.state}")
    return run


def _not_begun(folder: Path, begun: set[str]) -> Iterator[Unfinished]:
    """The jobs of a study's plan that have left no run."""
    plan = read_object(folder / "plan.json") or {"jobs": []}
    for job in plan["jobs"]:
        job_folder = folder / job["name"]
        if job["kind"] not in ("offline", "online"):
            continue
        if any(path.startswith(f"{job_folder}/") for path in begun):
            continue
        last = read_object(job_folder / "state.json") or {}
        reason = f": {last['reason']}" if last.get("reason") else ""
        state = last.get("state", "not started") + reason
        words = job["words"]
        env = words[words.index("--env") + 1]
        if online := job["kind"] == "online":
            experiment = UNKNOWN
            method = words[words.index("--exp_name") + 1]
        else:
            given = itertools.pairwise(words)
            options = {word[2:].replace("-", "_"): value for word, value in given}
            experiment = of_config(options, None)
            name = words[words.index("--name") + 1]
            file = Path(job["script"]).stem
            algorithm = job.get("algorithm") or _LABELS.get(file, file)
            method = _label(algorithm, name, "--diffusion.path" in words)
        yield Unfinished(job["name"], stem_of(env), method, state, online, experiment)


def _method(config: Mapping[str, Any]) -> str:
    algorithm = config.get("algorithm")
    if algorithm is None:
        algorithm = next((label for key, label in _KEYS.items() if key in config), "?")
    return _label(algorithm, config["name"], bool(config.get("diffusion.path")))


def _label(algorithm: str, name: str, synther: bool) -> str:
    """The algorithm, what the run's name adds to it, and whether it learned from samples.

    A name that begins with the algorithm's, in any spelling (``td3_bc`` of TD3+BC), adds only what
    follows.
    """
    parts = [part for part in name.replace(" ", "-").split("-") if part]
    beginnings = ["".join(map(_bare, parts[:count])) for count in range(len(parts) + 1)]
    own = _bare(algorithm)
    rest = parts[beginnings.index(own) :] if own in beginnings else parts
    added = "-".join(part for part in rest if part.lower() not in _PLAIN_NAMES)
    label = algorithm + (f" ({added})" if added else "")
    return f"{label} + SynthER" if synther else label


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))

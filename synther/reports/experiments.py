"""A cell of a report is of runs of one experiment: what is told apart here gets a name of its own.

Seeds may be averaged where they learned from the same data, as long, and were evaluated in the same
environment. Runs that share the names of task and method, but not these, get longer names. Other
settings in which the runs of a cell differ are named below its table.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, TypeVar

from synther.datasets.files import DATA_SUFFIXES, stem_of
from synther.runs.folder import MAY_DIFFER

_FREE = MAY_DIFFER | {
    *("env", "eval_env", "env_kwargs", "max_timesteps", "num_epochs", "diffusion.path"),
    *("redq_sac.env_name", "redq_sac.env_kwargs", "redq_sac.epochs"),
    *("seed", "num_seeds", "redq_sac.seed", "name", "algorithm", "checkpoints_path", "buffer_size"),
    *("save_checkpoints", "load_model", "log_every", "compile", "precision", "deterministic"),
    *("backend", "redq_sac.precision", "redq_sac.compile", "redq_sac.eval_workers"),
}
"""Settings that runs of one cell may have otherwise, or that an :class:`Experiment` has beside."""


@dataclass(frozen=True)
class Experiment:
    """What has to be the same in all runs of a cell, beside the names of task and method.

    Attributes:
        data: the whole name of the data, where the task is its last part; empty online.
        place: environment of the evaluation; empty where that is not known.
        asked: whether that was asked for, and is not simply the data's own.
        arguments: of the environment, as JSON; empty where it had none.
        length: updates or environment steps of the whole run; None where that is not known.
        settings: the others, by key.
    """

    data: str = ""
    place: str = ""
    asked: bool = False
    arguments: str = ""
    length: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)


UNKNOWN = Experiment()
DoneT = TypeVar("DoneT")
LeftT = TypeVar("LeftT")
"""A Run and an Unfinished, which have an Experiment."""


def of_config(config: Mapping[str, Any], length: int | None, place: str = "") -> Experiment:
    """The experiment of an offline run by its settings; ``place`` is where it was evaluated."""
    asked = config.get("eval_env")
    return Experiment(
        data=_whole(str(config["env"])),
        place=str(asked or place),
        asked=bool(asked),
        arguments=_arguments(config.get("env_kwargs")),
        length=length,
        settings=config,
    )


def told_apart(
    finished: Sequence[DoneT], unfinished: Sequence[LeftT]
) -> tuple[list[DoneT], list[LeftT]]:
    """The same runs; those of different experiments have different names of task or method."""
    of_task = defaultdict[Any, list[Experiment]](list)
    everything: list[Any] = [*finished, *unfinished]
    for run in everything:
        of_task[run.online, run.task].append(run.experiment)
    named = [replace(run, task=_task(run, of_task[run.online, run.task])) for run in everything]
    lengths = defaultdict[Any, set[int | None]](set)
    for run in named[: len(finished)]:
        lengths[run.online, run.task, run.method].add(run.experiment.length)
    # What is compared, with SynthER and without, is told apart where one of them has to be.
    unequal = {
        (online, task, _parts(method)[0])
        for (online, task, method), found in lengths.items()
        if len(found) > 1
    }

    def with_length(run: Any) -> Any:
        base, rest = _parts(run.method)
        length = run.experiment.length
        if length is None or (run.online, run.task, base) not in unequal:
            return run
        unit = "steps" if run.online else "updates"
        return replace(run, method=f"{base} [{length} {unit}]{rest}")

    told = list(map(with_length, named))
    return told[: len(finished)], told[len(finished) :]


def differing(experiments: Iterable[Experiment]) -> dict[str, list[str]]:
    """Settings that the experiments do not share: key -> the values. What an earlier version did
    not write down differs in nothing."""
    found = defaultdict[str, dict[str, None]](dict)
    for each in experiments:
        for key, value in each.settings.items():
            if key not in _FREE:
                found[key][str(value)] = None
    return {key: list(values) for key, values in found.items() if len(values) > 1}


def difference(experiments: Iterable[Experiment]) -> str:
    """The same in words: ``alpha 1.0, 2.5; discount 0.9, 0.99``."""
    return "; ".join(f"{key} {', '.join(each)}" for key, each in differing(experiments).items())


def require_once(runs: Iterable[Any]) -> None:
    """Refuse finished runs of which two would be one number of a cell.

    Raises:
        ValueError: two have the same task, method and seed; the message says in what they differ.
    """
    known: dict[Any, Any] = {}
    for run in runs:
        earlier = known.setdefault((run.online, run.task, run.method, run.seed), run)
        if earlier is not run:
            what = difference([earlier.experiment, run.experiment])
            other = f" with other settings ({what})" if what else ""
            mend = "give one another name, or report" if what else "report"
            raise ValueError(
                f"{run.method} on {run.task}, seed {run.seed}, is there twice{other}: "
                f"{earlier.path} and {run.path}; {mend} them one by one"
            )


def _arguments(text: str | None) -> str:
    """The arguments of an environment in one spelling; nothing where there are none."""
    content = json.loads(text) if text else None
    return json.dumps(content, sort_keys=True) if content else ""


def _parts(method: str) -> tuple[str, str]:
    rest = " + SynthER" if method.endswith(" + SynthER") else ""
    return method.removesuffix(rest), rest


def _task(run: Any, all_of_task: Sequence[Experiment]) -> str:
    name, own = str(run.task), run.experiment
    sources = {each.data for each in all_of_task if each.data}
    if own.data and len(sources) > 1:
        name = _short(own.data, sources)
    usual = {each.place for each in all_of_task if not each.asked}
    if own.asked and own.place not in usual and len({each.place for each in all_of_task}) > 1:
        name += f" in {own.place}"
    if own.arguments and len({each.arguments for each in all_of_task}) > 1:
        name += f" {own.arguments}"
    return name


def _whole(env: str) -> str:
    """The one name of the data. The subset that a study drew is the same rows in any folder."""
    if not env.endswith(DATA_SUFFIXES):
        return env
    path = PurePath(env)
    if path.parts[-4:-1] == ("data", path.stem, "run"):
        return str(PurePath(*path.parts[-4:]))
    return str(Path(env).resolve()) if Path(env).is_file() else env


def _short(own: str, sources: Collection[str]) -> str:
    """As many of the last folders as it takes to tell a file from the others."""

    def tail(source: str, count: int) -> str:
        path = PurePath(source)
        parts = path.parts[-count:]
        return str(PurePath(*parts[:-1], stem_of(parts[-1])))

    for count in range(1, len(PurePath(own).parts) + 1):
        if sum(tail(each, count) == tail(own, count) for each in sources) == 1:
            return tail(own, count)
    return own

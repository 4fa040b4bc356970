"""A study becomes jobs: every cell of every grid once, and a diffusion model for each data set.

Jobs come in the order in which they may start: subsets of data, diffusion models, then runs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from synther.datasets.files import DATA_SUFFIXES, stem_of
from synther.files import atomic
from synther.installed import shipped
from synther.runs.command_line import canonical
from synther.sweeps import paths
from synther.sweeps.algorithms import find_algorithm
from synther.sweeps.jobs import NEED_SAMPLES, ROOT, Job
from synther.sweeps.sections import Scalar, StudyError
from synther.sweeps.study import KINDS, Agent, Diffusion, Kind, OfflineGrid, Study

SAMPLES = "samples.npz"
TAKEN = {
    *("config", "env", "env_name", "seed", "num_seeds", "name", "checkpoints_path", "resume"),
    *("diffusion.path", "dataset", "results_folder", "save_num_samples", "save_file_name"),
    *("gin_config_files", "gin_params", "exp_name", "load_checkpoint", "no_save_samples"),
}
"""A study gives these arguments to the commands itself."""


def build_plan(study: Study) -> list[Job]:
    """All jobs of a study.

    Raises:
        StudyError: two grids have a cell in common, or two data sets a name.
    """
    plan: dict[str, Job] = {}
    for job in _jobs(study):
        earlier = plan.setdefault(job.name, job)
        shared = earlier == job and job.kind in ("data", "diffusion")
        if earlier is not job and not shared:
            raise StudyError(f"{study.file}: {job.name} is in the study twice; expected it once")
    order = {kind: number for number, kind in enumerate(KINDS)}
    return sorted(plan.values(), key=lambda job: order[job.kind])


def write_plan(study: Study, plan: list[Job], root: Path) -> None:
    """Write ``plan.json`` into the study's folder, where reports and people read what is to do."""
    jobs = [{**dataclasses.asdict(job), "command": job.command(root)} for job in plan]
    content = {"study": study.name, "file": study.file, "jobs": jobs}
    atomic.write_json(root / "plan.json", content)


def with_gpus(study: Study, per_run: float | None, per_model: float | None) -> Study:
    """The same study with another share of a GPU for each run, and for each diffusion model."""
    resources = dict(study.resources)
    given: dict[Kind, float | None] = {
        "offline": per_run, "online": per_run, "diffusion": per_model
    }  # fmt: skip
    for kind, gpus in given.items():
        if gpus is not None:
            resources[kind] = dataclasses.replace(resources[kind], gpus=gpus)
    return dataclasses.replace(study, resources=resources)


def _jobs(study: Study) -> Iterator[Job]:
    for number, grid in enumerate(study.offline):
        for data_set, fraction in itertools.product(grid.data_sets, grid.fractions):
            label = label_of(data_set)
            place = f"{study.file}: offline[{number}].data_sets"
            source = paths.source_of_data(data_set, place)
            needs: tuple[str, ...] = ()
            if fraction < 1:
                label += f"-{100 * fraction:g}pct"
                subset = _subset(study, label, source, fraction)
                source, needs = f"{ROOT}/{subset.name}/run/{subset.output}", (subset.name,)
                yield subset
            if True in grid.synther:
                yield _diffusion(study, label, source, needs)
            yield from _offline(study, grid, data_set, label, source, needs)
    for number, online in enumerate(study.online):
        place = f"{study.file}: online[{number}].agents"
        for env, (name, agent) in itertools.product(online.envs, online.agents.items()):
            for seed in online.seeds:
                yield _online(study, env, name, agent, seed, f"{place}.{name}")


def label_of(data_set: str) -> str:
    """What folders' names call a data set: its own name, or its file's without the ending."""
    if data_set.endswith(DATA_SUFFIXES):
        return stem_of(data_set)
    return data_set.removeprefix("minari:").replace(":", "-").replace("/", "-")


def _subset(study: Study, label: str, source: str, fraction: float) -> Job:
    name, output = f"data/{label}", f"{label}.npz"
    words = ("--dataset", source, "--fraction", f"{fraction:g}")
    target = f"{ROOT}/{name}/run/{output}"
    return Job(
        name=name,
        kind="data",
        script="synther/sweeps/subset.py",
        words=(*words, "--output", target),
        resources=study.resources["data"],
        output=output,
    )


def _diffusion(study: Study, label: str, source: str, needs: tuple[str, ...]) -> Job:
    settings, resources = study.diffusion, study.resources["diffusion"]
    name = f"diffusion/{label}"
    threads = max(1, int(resources.cpus))
    given = {"threads": threads, **(settings.arguments or {})}
    return Job(
        name=name,
        kind="diffusion",
        script="synther/diffusion/train_diffuser.py",
        words=(
            *("--dataset", source, "--seed", str(settings.seed)),
            *_gin_words(settings, f"{study.file}: diffusion"),
            *("--results_folder", f"{ROOT}/{name}/run"),
            *("--save_num_samples", str(settings.samples), "--save_file_name", SAMPLES),
            *_options(given, "diffusion.arguments", study.file, flags=True),
        ),
        needs=needs,
        resources=resources,
        output=SAMPLES,
    )


def _offline(
    study: Study,
    grid: OfflineGrid,
    data_set: str,
    label: str,
    source: str,
    needs: tuple[str, ...],
) -> Iterator[Job]:
    groups = [grid.seeds] if grid.stack_seeds else [(seed,) for seed in grid.seeds]
    for given_algorithm, variant, synther, seeds in itertools.product(
        grid.algorithms, grid.variants, grid.synther, groups
    ):
        algorithm = find_algorithm(given_algorithm)
        given: dict[str, Scalar] = {
            **grid.arguments,
            **grid.algorithm_arguments.get(given_algorithm, {}),
            **grid.variants[variant],
        }
        if not synther:  # there is nothing that these could say something of
            given = {k: v for k, v in given.items() if k.replace("-", "_") not in NEED_SAMPLES}
        run = f"{algorithm.name}-{variant}" if variant else algorithm.name
        span = f"s{seeds[0]}" if len(seeds) == 1 else f"s{seeds[0]}to{seeds[-1]}"
        name = f"offline/{run}-{label}-{'synther' if synther else 'real'}-{span}"
        model = f"diffusion/{label}"
        samples = f"{ROOT}/{model}/run/{SAMPLES}"
        file = yaml_of(_shipped_name(algorithm.script), data_set)
        yield Job(
            name=name,
            kind="offline",
            script=algorithm.script,
            words=(
                *(("--config", file) if file else ()),
                *("--env", source, "--name", run, "--seed", str(seeds[0])),
                *(("--num_seeds", str(len(seeds))) if len(seeds) > 1 else ()),
                *("--checkpoints_path", f"{ROOT}/{name}/run"),
                *(("--diffusion.path", samples) if synther else ()),
                *_options(given, "offline: arguments", study.file),
            ),
            needs=(*needs, model) if synther else needs,
            resources=study.resources["offline"],
            seeds=seeds,
            algorithm=algorithm.label,
        )


def _shipped_name(script: str) -> str:
    """What a study may call an algorithm that came with SynthER, however it was given; of another
    its path, for which there is no file of settings."""
    path = Path(script)
    return path.stem if path.parent == Path("synther/corl/algorithms") else script


def yaml_of(algorithm: str, data_set: str) -> str | None:
    """The file of an algorithm's settings for a data set, from the root of the repository."""
    family, _, rest = data_set.partition("-")
    file = f"synther/corl/yaml/{algorithm}/{family}/{rest.replace('-', '_')}.yaml"
    return file if shipped(file).is_file() else None


def _online(study: Study, env: str, agent_name: str, agent: Agent, seed: int, place: str) -> Job:
    resources = study.resources["online"]
    name = f"online/{agent_name}-{env.replace('/', '_')}-s{seed}"
    return Job(
        name=name,
        kind="online",
        script="synther/online/online_exp.py",
        words=(
            *("--env", env, "--seed", str(seed), "--exp_name", agent_name),
            *_gin_words(agent, place),
            *("--results_folder", f"{ROOT}/{name}/run"),
            *("--threads", str(max(1, int(resources.cpus)))),
        ),
        resources=resources,
        seeds=(seed,),
    )


def _gin_words(given: Agent | Diffusion, place: str) -> Iterator[str]:
    yield "--gin_config_files"
    yield from (paths.gin_file(each, f"{place}.gin_files") for each in given.gin_files)
    if given.gin_params:
        yield "--gin_params"
        yield from (paths.binding(each, f"{place}.gin_params") for each in given.gin_params)


def _options(
    given: Mapping[str, Scalar], place: str, file: str, *, flags: bool = False
) -> Iterator[str]:
    """``--key value`` for each; with ``flags``, a bool is ``--key`` or nothing."""
    for key, value in given.items():
        if canonical(key, TAKEN) in TAKEN:  # in whichever spelling a command takes
            raise StudyError(f"{file}: {place}: {key} is given by the study itself; leave it out")
        if flags and isinstance(value, bool):
            yield from (f"--{key}",) if value else ()
        else:
            yield from (f"--{key}", paths.argument(key, value, f"{file}: {place}.{key}"))

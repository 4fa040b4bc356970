"""A study is checked with the commands' own readers: they alone know which arguments they take."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from synther.corl.shared.parsing import parse
from synther.datasets import DatasetNotFoundError, dataset_info
from synther.datasets.files import DATA_SUFFIXES
from synther.datasets.load import source_of
from synther.diffusion import train_diffuser
from synther.envs import MissingSimulatorError, UnknownEnvironmentError, make_env
from synther.installed import CHECKOUT
from synther.online import online_exp
from synther.online.config import OnlineConfig, OnlineConfigError
from synther.runs import gin_config
from synther.runs.gin_config import GinError
from synther.runs.settings import ConfigError
from synther.sweeps.algorithms import find_algorithm
from synther.sweeps.jobs import Job
from synther.sweeps.paths import path_of
from synther.sweeps.sections import StudyError
from synther.sweeps.study import Study

# Importing a command makes its names known to gin, so that bindings can be checked.
_COMMANDS = (train_diffuser, online_exp)


def check(study: Study, plan: Sequence[Job]) -> None:
    """Try every name and every argument of a study, without training anything.

    Raises:
        StudyError: an unknown data set or environment, a gin file that is not there, an unknown
            binding or argument; the message names the file, the key, and what was expected.
    """
    for number, offline in enumerate(study.offline):
        for name in offline.data_sets:
            _check_data_set(name, f"{study.file}: offline[{number}].data_sets")
    for number, online in enumerate(study.online):
        where = f"{study.file}: online[{number}]"
        for env in online.envs:
            _check_env(env, f"{where}.envs")
        # What fits one environment need not fit the next: a target entropy of "mbpo", say.
        for env, (name, agent) in itertools.product(online.envs, online.agents.items()):
            _check_agent(env, agent.gin_files, agent.gin_params, where, name)
    for job in plan:
        if job.kind == "offline":
            _check_offline(study, job)
        elif job.kind == "online":
            _parsed(online_exp.build_parser, job, f"{study.file}: {job.name}")
    models = [job for job in plan if job.kind == "diffusion"]
    if models:
        _check_diffusion(study, models[0])


def _check_data_set(name: str, where: str) -> None:
    path = path_of(name, where)
    if path.suffix in DATA_SUFFIXES:
        if not path.is_file():
            raise StudyError(f"{where}: {name}: no such file")
    elif source_of(name) is None and "/" not in name:  # other sources, and Minari, know their own
        try:
            dataset_info(name)
        except DatasetNotFoundError as error:
            raise StudyError(f"{where}: {error}") from error


def _check_env(name: str, where: str) -> None:
    try:
        make_env(name).close()
    except UnknownEnvironmentError as error:
        raise StudyError(f"{where}: {error}") from error
    except MissingSimulatorError:
        pass  # the machine that only hands out the jobs may do without


def _check_agent(
    env: str, gin_files: Sequence[str], gin_params: Sequence[str], where: str, name: str
) -> None:
    try:
        gin_config.parse(bindings=online_exp.DEFAULTS)
        gin_config.parse(gin_files, gin_params, clear=False)
        OnlineConfig(env_name=env)
    except (GinError, OnlineConfigError) as error:
        raise StudyError(f"{where}.agents.{name}: {error}") from error


def _check_offline(study: Study, job: Job) -> None:
    algorithm = find_algorithm(job.script)
    try:
        config = parse(algorithm.config_class, job.words)
    except ConfigError as error:
        raise StudyError(f"{study.file}: arguments of {algorithm.name}: {error}") from error
    start = config.load_model
    if start is not None and not ((CHECKOUT or Path()) / path_of(start, study.file)).exists():
        raise StudyError(
            f"{study.file}: arguments of {algorithm.name}: load_model: {start} is not there; "
            f"expected a checkpoint or the folder of a run, as seen from {Path.cwd()}"
        )


def _check_diffusion(study: Study, job: Job) -> None:
    args = _parsed(train_diffuser.build_parser, job, f"{study.file}: diffusion.arguments")
    try:
        gin_config.parse(args.gin_config_files, args.gin_params)
    except GinError as error:
        raise StudyError(f"{study.file}: diffusion: {error}") from error


def _parsed(
    parser: Callable[[], argparse.ArgumentParser], job: Job, where: str
) -> argparse.Namespace:
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return parser().parse_args(job.words)
    except SystemExit as end:  # argparse has no other way to say it
        message = stderr.getvalue().strip().splitlines()[-1]
        raise StudyError(f"{where}: {message}") from end

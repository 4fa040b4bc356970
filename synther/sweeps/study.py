"""A study is what one YAML file, such as those in ``config/sweeps``, asks for, read and checked.

    name: tiny
    diffusion: {gin_files: [config/resmlp_demo_denoiser.gin], samples: 20000}
    offline:
      - data_sets: [hopper-demo-v0]
        algorithms: [td3_bc, iql]
        seeds: [0, 1]
    online:
      - envs: [Hopper-v2]
        agents: {SAC: {gin_files: [config/online/sac_small.gin]}}
        seeds: [0, 1]

``offline`` and ``online`` are lists of grids: a run for every combination of what a grid lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from synther.ranges import NotNegative, Positive, Seed, problem
from synther.sweeps.algorithms import find_algorithm
from synther.sweeps.sections import Scalar, Section, StudyError, read_yaml

Kind = Literal["data", "diffusion", "offline", "online"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Resources:
    """What a job occupies while it runs; half a GPU is two jobs on one."""

    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Diffusion:
    """How the model of each data set is trained and sampled."""

    gin_files: tuple[str, ...] = ("config/resmlp_denoiser.gin",)
    gin_params: tuple[str, ...] = ()
    samples: int = 5_000_000
    seed: int = 0
    arguments: Mapping[str, Scalar] | None = None  # further ones of train_diffuser.py


@dataclass(frozen=True)
class OfflineGrid:
    """Data sets x fractions x algorithms x variants x with and without SynthER x seeds."""

    data_sets: tuple[str, ...]
    algorithms: tuple[str, ...]
    seeds: tuple[int, ...]
    fractions: tuple[float, ...]  # of the data set's rows, drawn at random; 1 is the data set
    synther: tuple[bool, ...]
    stack_seeds: bool  # all seeds of a cell in one process
    arguments: Mapping[str, Scalar]  # of the algorithm's command
    algorithm_arguments: Mapping[str, Mapping[str, Scalar]]  # these go over them
    variants: Mapping[str, Mapping[str, Scalar]]  # and these over both; a name a variant


@dataclass(frozen=True)
class Agent:
    """What makes an online agent: gin files, and bindings that go over them."""

    gin_files: tuple[str, ...]
    gin_params: tuple[str, ...]


@dataclass(frozen=True)
class OnlineGrid:
    """Environments x agents x seeds."""

    envs: tuple[str, ...]
    agents: Mapping[str, Agent]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Study:
    """Everything that a file asks for."""

    name: str
    file: str
    diffusion: Diffusion
    offline: tuple[OfflineGrid, ...]
    online: tuple[OnlineGrid, ...]
    resources: Mapping[Kind, Resources]
    slurm: Mapping[str, Scalar]  # parameters of sbatch, as submitit names them


def load_study(path: str | Path) -> Study:
    """Read a file.

    Raises:
        StudyError: an unknown key, a value of the wrong kind, an empty grid, a seed twice, an
            algorithm that is not found; the message names the file and the key and says what was
            expected.
    """
    top = read_yaml(path)
    study = Study(
        name=_name(top, "name", top.take("name", str)),
        file=str(path),
        diffusion=_diffusion(top.section("diffusion")),
        offline=tuple(map(_offline_grid, top.sections("offline"))),
        online=tuple(map(_online_grid, top.sections("online"))),
        resources=_resources(top.section("resources")),
        slurm=top.section("slurm").scalars(),
    )
    top.done()
    if not study.offline and not study.online:
        raise StudyError(f"{path}: has no runs; expected a grid under offline or online")
    return study


def _diffusion(section: Section) -> Diffusion:
    default = Diffusion()
    found = Diffusion(
        gin_files=section.items("gin_files", str, list(default.gin_files)),
        gin_params=section.items("gin_params", str, []),
        samples=_positive(section, "samples", default.samples),
        seed=_seed(section, "seed", section.take("seed", int, default.seed)),
        arguments=section.section("arguments").scalars(),
    )
    section.done()
    return found


def _offline_grid(section: Section) -> OfflineGrid:
    algorithms = section.items("algorithms", str)
    _check_algorithms(section, algorithms)
    own = section.section("algorithm_arguments").named()
    for each in own:
        section.choice("algorithm_arguments", each, algorithms)
    variants = section.section("variants").named()
    grid = OfflineGrid(
        data_sets=section.items("data_sets", str),
        algorithms=algorithms,
        seeds=_seeds(section),
        fractions=section.items("fractions", float, [1.0]),
        synther=section.items("synther", bool, [False, True]),
        stack_seeds=section.take("stack_seeds", bool, False),
        arguments=section.section("arguments").scalars(),
        algorithm_arguments={key: each.scalars() for key, each in own.items()},
        variants={_name(section, "variants", key): each.scalars() for key, each in variants.items()}
        or {"": {}},
    )
    section.done()
    for fraction in grid.fractions:
        if not 0 < fraction <= 1:
            raise section.error("fractions", f"{fraction}: expected more than 0, at most 1")
    first = grid.seeds[0]
    if grid.stack_seeds and list(grid.seeds) != list(range(first, first + len(grid.seeds))):
        raise section.error(
            "stack_seeds", f"expected seeds that follow each other, got {list(grid.seeds)}"
        )
    return grid


def _check_algorithms(section: Section, algorithms: Sequence[str]) -> None:
    """Find each of them, and refuse two whose runs would have the same names."""
    known: dict[str, str] = {}
    for each in algorithms:
        try:
            name = find_algorithm(each).name
        except StudyError as error:
            raise section.error("algorithms", str(error)) from error
        earlier = known.setdefault(name, each)
        if earlier != each:
            raise section.error(
                "algorithms", f"{earlier} and {each} both call their runs {name}; rename one"
            )


def _online_grid(section: Section) -> OnlineGrid:
    agents = {}
    for name, each in section.section("agents").named().items():
        agents[_name(section, "agents", name)] = Agent(
            each.items("gin_files", str), each.items("gin_params", str, [])
        )
        each.done()
    if not agents:
        raise section.error("agents", "missing, expected a name with gin_files for each agent")
    grid = OnlineGrid(section.items("envs", str), agents, _seeds(section))
    section.done()
    return grid


def _resources(section: Section) -> dict[Kind, Resources]:
    found: dict[Kind, Resources] = {}
    for kind in KINDS:
        own = section.section(kind)
        found[kind] = Resources(own.take("cpus", float, 1.0), own.take("gpus", float, 0.0))
        own.done()
        if problem(found[kind].cpus, Positive) or problem(found[kind].gpus, NotNegative):
            raise section.error(kind, "expected cpus of more than 0 and gpus of 0 or more")
        if found[kind].gpus > 1 and found[kind].gpus % 1:
            raise section.error(kind, f"gpus {found[kind].gpus}: above 1, a whole number")
    section.done()
    return found


def _seeds(section: Section) -> tuple[int, ...]:
    seeds = section.items("seeds", int)
    return tuple(_seed(section, "seeds", each) for each in seeds)


def _seed(section: Section, key: str, seed: int) -> int:
    if expected := problem(seed, Seed):
        raise section.error(key, f"expected {expected}, got {seed}")
    return seed


def _positive(section: Section, key: str, default: int) -> int:
    value: int = section.take(key, int, default)
    if value < 1:
        raise section.error(key, f"expected 1 or more, got {value}")
    return value


def _name(section: Section, key: str, name: str) -> str:
    """A name that may be part of a folder's."""
    if not name or not all(each.isalnum() or each in "_.-+" for each in name):
        raise section.error(key, f"'{name}': expected letters, digits, '_', '.', '+' and '-' only")
    return name

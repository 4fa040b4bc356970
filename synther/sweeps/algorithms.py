"""An offline algorithm is registered by its file alone; this module finds it for a study.

A study names a file of ``synther/corl/algorithms`` by its name without ``.py``, or any other file
by its path. What a study must know of the algorithm is read from the class of settings in the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from synther import installed
from synther.corl import algorithms
from synther.corl.shared.config import RunConfig
from synther.files.atomic import expanded
from synther.suggestions import did_you_mean
from synther.sweeps.sections import StudyError


@dataclass(frozen=True)
class Algorithm:
    """What a study knows of an algorithm.

    Attributes:
        name: begins the names of its runs and folders: ``td3_bc``.
        label: is what tables call it: ``TD3+BC``.
        script: is its file, from the root of the repository where it lies in there.
        config_class: are the settings that its command takes.
    """

    name: str
    label: str
    script: str
    config_class: type[RunConfig]


def shipped() -> tuple[str, ...]:
    """The names of the files in ``synther/corl/algorithms``, which a study can use as they are."""
    return tuple(sorted(each.name for each in pkgutil.iter_modules(algorithms.__path__)))


def find_algorithm(given: str) -> Algorithm:
    """The algorithm of one of the :func:`shipped` names, or of the file at a path.

    A path that is not there is looked for among the files that came with SynthER too.

    Raises:
        StudyError: there is no such name or file, it cannot be imported, or it does not hold one
            class of settings with a name of its own; the message says what was expected.
    """
    if not given.endswith(".py"):
        if given not in shipped():
            raise StudyError(
                f"unknown '{given}'{did_you_mean(given, shipped())} (or a path to a .py)"
            )
        return _read(f"{algorithms.__name__}.{given}", None)
    try:
        path = expanded(given)
    except FileNotFoundError as error:
        raise StudyError(str(error)) from error
    found = next((each for each in (path, installed.shipped(path)) if each.is_file()), None)
    if found is None:
        raise StudyError(f"{given}: no such file")
    found = found.resolve()
    if str(found.parent) in algorithms.__path__:
        return _read(f"{algorithms.__name__}.{found.stem}", None)
    return _read(f"{found.stem}@{found.parent}", found)


@cache
def _read(module_name: str, file: Path | None) -> Algorithm:
    """The algorithm in a module of the package, or in a file outside of it."""
    try:
        module = importlib.import_module(module_name) if file is None else _run(module_name, file)
    except Exception as error:  # whatever somebody's file raises
        where = file or module_name
        raise StudyError(
            f"{where}: cannot be imported ({type(error).__name__}: {error})"
        ) from error
    path = Path(str(module.__file__))
    config_class = _config_class_of(module, path)
    name = str(config_class.name)
    if name == RunConfig.name:
        raise StudyError(
            f"{path}: {config_class.__name__} calls its runs '{name}', as every other would; give "
            "it a name of its own, such as name: str = 'BC'"
        )
    return Algorithm(
        name=name.lower(),
        label=config_class.algorithm or name,
        script=installed.name_of(path),
        config_class=config_class,
    )


def _run(module_name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # where the types of a dataclass's fields are looked up
    spec.loader.exec_module(module)
    return module


def _config_class_of(module: ModuleType, path: Path) -> type[RunConfig]:
    """The class of settings that a module defines; a base of another one of its own is not it."""
    own = [
        each
        for each in vars(module).values()
        if inspect.isclass(each)
        and issubclass(each, RunConfig)
        and each.__module__ == module.__name__
    ]
    found = [each for each in own if not any(each in other.__mro__[1:] for other in own)]
    if len(found) != 1:
        names = ", ".join(each.__name__ for each in found) or "none"
        raise StudyError(
            f"{path}: expected one class of settings, derived from RunConfig, found {names}; "
            "examples/new_algorithm.py shows one"
        )
    return found[0]

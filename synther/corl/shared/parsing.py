"""From YAML files and command lines to configurations, stricter than pyrallis' own reading.

A value of the wrong type is an error (pyrallis makes True of ``3e-5`` where a bool is expected), an
unknown key names the nearest one, and each error is one line.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pyrallis
import yaml

from synther.corl.shared.config import ConfigError, DiffusionConfig, RunConfig

ConfigT = TypeVar("ConfigT", bound=RunConfig)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
"""What a file holds may be large; with YAML's aliases larger than any memory."""
_TEXT_OF_NONE = ("", "null", "none", "~")
_ROOT = Path(__file__).resolve().parents[3]


def parse(config_class: type[ConfigT], arguments: Sequence[str]) -> ConfigT:
    """Defaults, then ``--config FILE``, then the other arguments.

    Args:
        config_class: a RunConfig.
        arguments: ``--key value``, ``--key=value``, or ``--key`` alone for a bool. ``--wandb-mode``
            and ``--wandb_mode`` are the same; nested keys are written ``--diffusion.path``.

    Raises:
        ConfigError: an unknown key, a value that does not fit, or an unreadable file.
    """
    given = _arguments_by_key(arguments)
    file = given.pop("config", None)
    values = {} if file is None else read_yaml(config_class, file)
    values.update(_typed(config_class, given, "--"))
    return _build(config_class, values)


def load_yaml(config_class: type[ConfigT], path: str | Path) -> ConfigT:
    """The configuration that a YAML file describes, with the defaults for what it leaves out."""
    return _build(config_class, read_yaml(config_class, path))


def read_yaml(config_class: type[RunConfig], path: str | Path) -> dict[str, Any]:
    """The typed values of a file by flat key; nothing for the keys that it leaves out.

    A path that is not there is looked for from the project's root too, so that
    ``synther/corl/yaml/...`` works from any folder.
    """
    found = next((each for each in (Path(path), _ROOT / path) if os.path.isfile(each)), None)
    if found is None:
        raise ConfigError(f"--config {path}: no such file")
    try:
        # Not pyrallis' own reading, whose loader looks up any name that a file asks for.
        content = yaml.safe_load(found.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())[:300]
        raise ConfigError(f"{found}: not YAML ({what})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{found}: holds a {type(content).__name__}, expected keys and values")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        nested = isinstance(value, dict)
        flat.update({f"{key}.{name}": v for name, v in value.items()} if nested else {key: value})
    return _typed(config_class, flat, f"{found}: ")


def usage(config_class: type[RunConfig]) -> str:
    """The text of ``--help``: every key with its default and its comment."""
    parser = pyrallis.argparsing.ArgumentParser(config_class)
    return str(parser.format_help()).replace("--config_path str", "--config FILE")


def _arguments_by_key(arguments: Sequence[str]) -> dict[str, str]:
    """``--a 1 --b=2 --c`` -> ``{"a": "1", "b": "2", "c": "true"}``."""
    given: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"unexpected argument '{word}', expected --key value")
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        given[key.replace("-", "_")] = value
    return given


def _types(config_class: type) -> dict[str, Any]:
    """Flat key -> annotation."""
    flat: dict[str, Any] = {}
    annotations = get_type_hints(config_class)
    for each in dataclasses.fields(config_class):
        if each.name == "diffusion":
            flat.update({f"diffusion.{k}": t for k, t in _types(DiffusionConfig).items()})
        else:
            flat[each.name] = annotations[each.name]
    return flat


def _typed(config_class: type[RunConfig], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    types, typed = _types(config_class), {}
    for name, value in given.items():
        key = config_class.ALIASES.get(name, name)
        if key not in types:
            known = [*types, *config_class.ALIASES, "config"]
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else f"; keys are {', '.join(known)}"
            raise ConfigError(f"{where}{name}: no such key{hint}")
        try:
            typed[key] = coerce(value, types[key])
        except ConfigError as error:
            raise ConfigError(f"{where}{name}: {error}") from None
    return typed


def _build(config_class: type[ConfigT], flat: Mapping[str, Any]) -> ConfigT:
    prefix = "diffusion."
    outer = {key: value for key, value in flat.items() if not key.startswith(prefix)}
    inner = {k.removeprefix(prefix): v for k, v in flat.items() if k.startswith(prefix)}
    return config_class(**outer, diffusion=DiffusionConfig(**inner))


def coerce(value: Any, kind: Any) -> Any:
    """``value`` (text of a command line, or what YAML made of it) as ``kind``, without guessing.

    Raises:
        ConfigError: it is not of that kind: ``3e-5`` is a float, never a bool.
    """
    if get_origin(kind) is Union:
        if value is None or (isinstance(value, str) and value.lower() in _TEXT_OF_NONE):
            return None
        return coerce(value, next(each for each in get_args(kind) if each is not type(None)))
    if get_origin(kind) is Literal:
        value = "off" if value is False else value  # YAML 1.1 reads an unquoted off as false
        if value in get_args(kind):
            return value
        raise ConfigError(f"'{value}' is not one of {', '.join(get_args(kind))}")
    number = _number(value)
    if kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind is int and number is not None and number == int(number):
        return int(number)
    if kind is float and number is not None:
        return float(number)
    if kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
    raise ConfigError(f"expected {expected}, got {_SHORT.repr(value)}")


def _number(value: Any) -> int | float | None:
    """A finite number or the text of one (YAML reads ``3e-5`` as text), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    for kind in (int, float):
        try:
            number = kind(value) if isinstance(value, str) else value
        except ValueError:
            continue
        return number if abs(number) < float("inf") else None
    return None

"""Dataclasses of settings are read strictly from YAML files and command lines, and written back.

A value of the wrong type is an error, an unknown key names the nearest one, and each error is one
line. Nested dataclasses have flat keys: ``diffusion.path``. Flags for them are made in
:mod:`synther.runs.flags`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import reprlib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from synther import ranges
from synther.errors import InputError
from synther.files.atomic import at_home, expanded
from synther.installed import shipped
from synther.suggestions import did_you_mean

ConfigT = TypeVar("ConfigT")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
"""A value in a file may be large; with YAML's aliases it may be larger than any memory."""
_TEXT_OF_NONE = ("null", "none", "~")


class ConfigError(InputError):
    """A key or value that a configuration cannot have; the message is one line."""


class _Loader(yaml.SafeLoader):
    """YAML whose mappings may not have a key twice: the first would be lost without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is there twice")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_mapping(path: str | Path) -> dict[Any, Any]:
    """The keys and values of a file.

    A path that is not there is looked for among the files that came with SynthER too, so that
    ``synther/corl/yaml/...`` works from any folder.

    Raises:
        ConfigError: no such file, not YAML, a key twice, or no keys and values.
    """
    found = next((each for each in (expanded(path), shipped(path)) if os.path.isfile(each)), None)
    if found is None:
        raise ConfigError(f"{path}: no such file")
    try:
        content = yaml.load(found.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{found}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())[:300]
        raise ConfigError(f"{found}: not YAML ({what})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{found}: holds a {type(content).__name__}, expected keys and values")
    return content


def read_settings(config_class: type, path: str | Path) -> dict[str, Any]:
    """The typed values of a file by flat key, without the keys that it leaves out."""
    flat: dict[str, Any] = {}
    for key, value in read_mapping(path).items():
        nested = isinstance(value, dict)
        flat.update({f"{key}.{name}": v for name, v in value.items()} if nested else {key: value})
    return typed(config_class, flat, f"{path}: ")


def typed(config_class: type, given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Values (text of a command line, or what YAML made of it) of the types of their keys; text
    that begins with ``~/`` is a path in the home directory.

    Args:
        config_class: a dataclass; ``ALIASES``, where it has them, are other names of keys.
        given: flat key -> value.
        where: what to put before a key in a message.

    Raises:
        ConfigError: an unknown key, or a value that does not fit.
    """
    kinds, aliases = types_of(config_class), getattr(config_class, "ALIASES", {})
    values = {}
    for name, value in given.items():
        key = aliases.get(name, name)
        if key not in kinds:
            dashes = where if where == "--" else ""  # of a command line, not of a file
            meant = did_you_mean(str(name), [*kinds, *aliases], dashes)
            raise ConfigError(f"{where}{name}: no such key{meant}")
        try:
            found = coerce(value, kinds[key])
            values[key] = at_home(found) if isinstance(found, str) else found
        except (ConfigError, FileNotFoundError) as error:
            raise ConfigError(f"{where}{name}: {error}") from None
    return values


def types_of(config_class: type) -> dict[str, Any]:
    """The annotation of each flat key."""
    flat: dict[str, Any] = {}
    for name, kind in _annotations(config_class).items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            flat.update({f"{name}.{key}": each for key, each in types_of(kind).items()})
        else:
            flat[name] = kind
    return flat


def _annotations(config_class: type) -> dict[str, Any]:
    hints = get_type_hints(config_class)
    return {each.name: hints[each.name] for each in dataclasses.fields(config_class)}


def build(config_class: type[ConfigT], flat: Mapping[str, Any]) -> ConfigT:
    """The configuration of :func:`as_dict` or :func:`typed`, defaults for what is left out."""
    values = dict(flat)
    for name, kind in _annotations(config_class).items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            inner = [key for key in values if key.startswith(f"{name}.")]
            values[name] = kind(**{key[len(name) + 1 :]: values.pop(key) for key in inner})
    return config_class(**values)


def as_dict(config: Any) -> dict[str, Any]:
    """Every key of a configuration, flat, as plain values."""
    flat: dict[str, Any] = {}
    for name, kind in _annotations(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(kind):
            flat.update({f"{name}.{key}": each for key, each in as_dict(value).items()})
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def coerce(value: Any, kind: Any) -> Any:
    """``value`` (text of a command line, or what YAML made of it) as ``kind``, without guessing.

    Raises:
        ConfigError: it is not of that kind: ``3e-5`` is a float, never a bool.
    """
    if get_origin(kind) in (Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in _TEXT_OF_NONE):
            return None
        if value == "":  # such as a variable of a shell that is not set
            raise ConfigError("is empty; null stands for none")
        return coerce(value, next(each for each in get_args(kind) if each is not type(None)))
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"expected a list, got {_SHORT.repr(value)}")
        return tuple(coerce(each, get_args(kind)[0]) for each in value)
    if get_origin(kind) is Literal:
        value = "off" if value is False else value  # YAML 1.1 reads an unquoted off as false
        if value in get_args(kind):
            return value
        raise ConfigError(f"{_SHORT.repr(value)} is not {ranges.problem(value, kind)}")
    number = _number(value)
    if kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind is int and number is not None and number == int(number):
        return int(number)
    if kind is float and number is not None:
        return float(number)
    if kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise ConfigError(f"expected {NAMES[kind]}, got {_SHORT.repr(value)}")


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


def configured(config_class: type[ConfigT], given: Mapping[str, Any]) -> ConfigT:
    """Defaults, then the file that ``config`` names, then the other words of a command line.

    Args:
        config_class: a dataclass.
        given: the words by their keys, without the dashes.

    Raises:
        ConfigError: an unknown key, a value that does not fit, or an unreadable file.
    """
    words = {key: value for key, value in given.items() if key != "config"}
    values = read_settings(config_class, given["config"]) if "config" in given else {}
    return build(config_class, values | typed(config_class, words, "--"))


def keywords(text: str | None, name: str) -> dict[str, Any]:
    """The arguments by name that a JSON object holds; none for None.

    Raises:
        ConfigError: it holds something else; the message begins with ``name``.
    """
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name}: not JSON ({error}): {_SHORT.repr(text)}") from error
    if not isinstance(found, dict):
        raise ConfigError(f'{name}: expected an object, such as {{"gravity": 1.6}}, got {text:.80}')
    return found


def check(config: Any, prefix: str = "", error: type[InputError] = ConfigError) -> None:
    """Compare the numbers and choices of a configuration with the ranges in its annotations.

    Args:
        config: a dataclass; nested ones check themselves.
        prefix: what to put before a key in a message.
        error: what to raise.

    Raises:
        ConfigError: for the first field that does not fit, as an ``error``.
    """
    for name, kind in get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        if ranges.is_checked(kind) and (expected := ranges.problem(value, kind)):
            raise error(f"{prefix}{name} is {_SHORT.repr(value)}, expected {expected}")


NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
"""The name of a type in a message."""

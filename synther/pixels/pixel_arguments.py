"""From YAML files and command lines to a PixelConfig: an unknown key or a wrong value is an error
of one line."""

from __future__ import annotations

import argparse
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from synther.commands import UsageError
from synther.pixels.pixel_config import PixelConfig, as_dict, from_dict

_ROOT = Path(__file__).resolve().parents[2]


def build_parser(description: str) -> argparse.ArgumentParser:
    """``--config FILE`` and a flag for each key; what is not given is not in the namespace."""
    parser = argparse.ArgumentParser(description=description, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE", help="YAML, such as config/pixels/*.yaml")
    defaults = as_dict(PixelConfig())
    for key, kind in _types(PixelConfig).items():
        inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
        several: dict[str, Any] = {"nargs": "*"} if inner is not kind else {}
        bare: dict[str, Any] = {"nargs": "?", "const": "true"} if kind is bool else {}
        parser.add_argument(
            f"--{key}", metavar=_name(inner), help=f"default: {defaults[key]}", **several, **bare
        )
    return parser


def config_of(args: argparse.Namespace) -> PixelConfig:
    """Defaults, the file, and what the command line gave.

    Raises:
        UsageError: an unknown key, or a value that does not fit.
        FileNotFoundError: no such file.
    """
    given = vars(args)
    flat = read_yaml(given["config"]) if "config" in given else {}
    keys = _types(PixelConfig)
    words = {key: value for key, value in given.items() if key in keys}
    flat |= {key: _typed(value, keys[key], f"--{key}") for key, value in words.items()}
    try:
        return from_dict(flat)
    except ValueError as error:
        raise UsageError(str(error)) from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Typed values by flat key; a path is looked for from the project's root too."""
    found = next((each for each in (Path(path), _ROOT / path) if each.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"--config {path}: no such file")
    try:
        content = yaml.safe_load(found.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{found}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, Mapping):
        raise UsageError(f"{found}: holds a {type(content).__name__}, expected keys and values")
    keys, flat = _types(PixelConfig), {}
    for key, value in content.items():
        inner = (
            {f"{key}.{name}": each for name, each in value.items()}
            if isinstance(value, Mapping)
            else {}
        )
        for name, each in (inner or {key: value}).items():
            if name not in keys:
                raise UsageError(f"{found}: no key '{name}'; see drq_bc.py --help")
            flat[name] = _typed(each, keys[name], f"{found}: {name}")
    return flat


def _types(kind: type) -> dict[str, Any]:
    """Flat key -> annotation."""
    hints, flat = get_type_hints(kind), {}
    for each in fields(kind):
        annotation = hints[each.name]
        if is_dataclass(annotation) and isinstance(annotation, type):
            flat.update({f"{each.name}.{key}": t for key, t in _types(annotation).items()})
        else:
            flat[each.name] = annotation
    return flat


def _typed(value: Any, kind: Any, where: str) -> Any:
    """``value``, text of a command line or what YAML made of it, as ``kind``."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None or value == "none":
            return None
        return _typed(value, get_args(kind)[0], where)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise UsageError(f"{where}: expected a list, got {value!r}")
        return tuple(_typed(each, get_args(kind)[0], where) for each in value)
    if origin is Literal:
        value = "off" if value is False else value  # YAML 1.1 reads an unquoted off as false
        if value in get_args(kind):
            return value
    elif kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    elif kind in (int, float) and not isinstance(value, bool):
        number = _number(value)
        if number is not None and (kind is float or number.is_integer()):
            return kind(number)
    elif kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise UsageError(f"{where}: expected {_name(kind)}, got {value!r}")


def _number(value: Any) -> float | None:
    """A finite number or the text of one (YAML reads ``3e-5`` as text), else None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return _name(get_args(kind)[0])
    return {int: "a whole number", float: "a number", bool: "true|false", str: "text"}[kind]

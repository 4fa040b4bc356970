"""From YAML files and command lines to the configuration of a pixel command."""

from __future__ import annotations

import argparse
import types
from typing import Any, Literal, Union, get_args, get_origin

from synther.pixels.config import PixelConfig
from synther.runs.commands import UsageError
from synther.runs.settings import NAMES, ConfigError, as_dict, build, read_settings, typed, types_of


def build_parser(description: str) -> argparse.ArgumentParser:
    """``--config FILE`` and a flag for each key; what is not given is not in the namespace."""
    parser = argparse.ArgumentParser(description=description, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE", help="YAML, such as config/pixels/*.yaml")
    defaults = as_dict(PixelConfig())
    for key, kind in types_of(PixelConfig).items():
        inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
        several: dict[str, Any] = {"nargs": "*"} if inner is not kind else {}
        bare: dict[str, Any] = {"nargs": "?", "const": "true"} if kind is bool else {}
        # As the other commands spell it.
        names = ("--wandb-mode", "--wandb_mode") if key == "wandb_mode" else (f"--{key}",)
        parser.add_argument(
            *names,
            dest=key,
            metavar=_metavar(inner),
            help=f"default: {defaults[key]}",
            **several,
            **bare,
        )
    return parser


def config_of(args: argparse.Namespace) -> PixelConfig:
    """Defaults, the file, and what the command line gave.

    Raises:
        UsageError: an unknown key, a value that does not fit, or an unreadable file.
    """
    given = dict(vars(args))
    file = given.pop("config", None)
    words = {key: given[key] for key in types_of(PixelConfig) if key in given}
    try:
        values = {} if file is None else read_settings(PixelConfig, file)
        return build(PixelConfig, values | typed(PixelConfig, words, "--"))
    except ConfigError as error:
        raise UsageError(str(error)) from error


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return _metavar(get_args(kind)[0])
    return NAMES[kind]

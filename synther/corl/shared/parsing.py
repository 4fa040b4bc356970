"""The configuration of an offline run is read from a YAML file and a command line.

Types are those of :mod:`synther.runs.settings`: pyrallis' own reading makes True of ``3e-5`` where
a bool is expected, and looks up any name that a file asks for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from synther.corl.shared.config import RunConfig
from synther.runs.command_line import CommandParser, canonical
from synther.runs.flags import flags_of
from synther.runs.settings import ConfigError, configured, types_of

ConfigT = TypeVar("ConfigT", bound=RunConfig)


def parse(config_class: type[ConfigT], arguments: Sequence[str]) -> ConfigT:
    """Defaults, then ``--config FILE``, then the other arguments.

    Args:
        config_class: a RunConfig.
        arguments: ``--key value``, ``--key=value``, or ``--key`` alone for a bool. ``--wandb-mode``
            and ``--wandb_mode`` are the same; nested keys are written ``--diffusion.path``.

    Raises:
        ConfigError: an unknown key, a value that does not fit, or an unreadable file.
    """
    known = [*types_of(config_class), *config_class.ALIASES, "config"]
    given = _arguments_by_key(arguments)
    return configured(config_class, {canonical(key, known): given[key] for key in given})


def flags(config_class: type[RunConfig]) -> CommandParser:
    """The parser that explains the keys; :func:`parse` reads them."""
    own = config_class.algorithm or config_class.name
    command = Path(sys.argv[0]).name
    example = f"{command} --env hopper-demo-v0 --max_timesteps 4000 --diffusion.path samples.npz"
    return flags_of(config_class, f"Train {own} offline, on real or synthetic rows.", example)


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

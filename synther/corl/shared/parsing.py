"""The configuration of an offline run is read from a YAML file and a command line.

Types are those of :mod:`synther.runs.settings`: pyrallis' own reading makes True of ``3e-5`` where
a bool is expected, and looks up any name that a file asks for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from synther.corl.shared.config import RunConfig
from synther.runs.command_line import CommandParser, canonical
from synther.runs.flags import flags_of
from synther.runs.settings import ConfigError, configured, read_settings, types_of

ConfigT = TypeVar("ConfigT", bound=RunConfig)
COMMAND_DEFAULTS: Mapping[str, str] = MappingProxyType({"checkpoints_path": "corl_logs"})
"""A command's run leaves its result somewhere; ``--checkpoints_path none`` is nowhere."""


def parse(
    config_class: type[ConfigT],
    arguments: Sequence[str],
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> ConfigT:
    """Defaults, then ``--config FILE``, then the other arguments.

    Args:
        config_class: a RunConfig.
        arguments: ``--key value``, ``--key=value``, or ``--key`` alone for a bool. ``--wandb-mode``
            and ``--wandb_mode`` are the same; nested keys are written ``--diffusion.path``.
        defaults: texts of keys that stand where neither file nor arguments have the key.

    Raises:
        ConfigError: an unknown key, a value that does not fit, or an unreadable file.
    """
    known = [*types_of(config_class), *config_class.ALIASES, "config"]
    words = _arguments_by_key(arguments)
    given = {canonical(key, known): words[key] for key in words}
    in_file = read_settings(config_class, given["config"]) if "config" in given else {}
    left = {key: value for key, value in defaults.items() if key not in in_file}
    return configured(config_class, {**left, **given})


def flags(config_class: type[RunConfig]) -> CommandParser:
    """The parser that explains the keys; :func:`parse` reads them."""
    own = config_class.algorithm or config_class.name
    command = Path(sys.argv[0]).name
    example = f"{command} --env hopper-demo-v0 --max_timesteps 4000 --diffusion.path samples.npz"
    about = f"Train {own} offline, on real or synthetic rows."
    return flags_of(config_class, about, example, defaults=COMMAND_DEFAULTS)


def _arguments_by_key(arguments: Sequence[str]) -> dict[str, str]:
    """``--a 1 --b=2 --c`` -> ``{"a": "1", "b": "2", "c": "true"}``."""
    given: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ConfigError(
                f"unexpected argument '{word}', expected --key value; did you mean --env {word}?"
            )
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        given[key.replace("-", "_")] = value
    return given

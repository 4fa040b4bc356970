"""The configuration of an offline run is read from a YAML file and a command line.

Types are those of :mod:`synther.runs.settings`: pyrallis' own reading, which is left nothing but
``--help``, makes True of ``3e-5`` where a bool is expected, and looks up any name a file asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pyrallis

from synther.corl.shared.config import RunConfig
from synther.runs.settings import ConfigError, configured

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
    return configured(config_class, _arguments_by_key(arguments))


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

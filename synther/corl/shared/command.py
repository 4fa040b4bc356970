"""Every algorithm's command reads its arguments, trains, and says the result in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from synther.corl.shared.config import RunConfig
from synther.corl.shared.parsing import COMMAND_DEFAULTS, flags, parse
from synther.corl.shared.result import summary
from synther.corl.shared.runner import BuildAgent, run_in_folder
from synther.runs.commands import UsageError, command_errors
from synther.runs.settings import ConfigError


def command(
    config_class: type[RunConfig], build: BuildAgent, arguments: Sequence[str] | None = None
) -> None:
    """The command of an algorithm: read the arguments, train, say the result in one line."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if "--help" in words or "-h" in words:
        sys.stdout.write(flags(config_class).format_help().rstrip() + "\n")
        return
    with command_errors():
        try:
            config = parse(config_class, words, COMMAND_DEFAULTS)
        except ConfigError as error:
            raise UsageError(str(error)) from error
        result, folder = run_in_folder(config, build)
        where = folder or "nothing is written without --checkpoints_path"
        sys.stdout.write(f"{summary(result)}; {where}\n")

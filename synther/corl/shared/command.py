"""What each algorithm's command does: read the arguments, train, say the result in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from synther.checkpoint import CheckpointError
from synther.corl.shared.config import ConfigError, RunConfig
from synther.corl.shared.parsing import parse, usage
from synther.corl.shared.result import summary
from synther.corl.shared.runner import BuildAgent, run
from synther.datasets import DatasetNotFoundError, DownloadError
from synther.envs import MissingSimulatorError, UnknownEnvironmentError
from synther.transitions import TransitionError

USER_ERRORS = (
    ConfigError, TransitionError, CheckpointError, DatasetNotFoundError, DownloadError,
    UnknownEnvironmentError, MissingSimulatorError,
)  # fmt: skip
"""Errors whose message is all that a person needs."""


def command(
    config_class: type[RunConfig], build: BuildAgent, arguments: Sequence[str] | None = None
) -> None:
    """The command of an algorithm: read the arguments, train, say the result in one line."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if "--help" in words or "-h" in words:
        sys.stdout.write(usage(config_class))
        return
    try:
        result = run(parse(config_class, words), build)
    except USER_ERRORS as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    sys.stdout.write(summary(result) + "\n")

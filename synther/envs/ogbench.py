"""OGBench's single-task environments, such as ``cube-single-singletask-v0``, come from its package.

gymnasium knows them once the package is imported. An episode ends where the task is solved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synther.envs.simulators import MissingSimulatorError, require
from synther.installed import install_hint

if TYPE_CHECKING:
    import gymnasium


def is_task(env_id: str) -> bool:
    """Whether the name is of OGBench's kind with a task."""
    return "-singletask-" in env_id


def register() -> None:
    """Let gymnasium know OGBench's environments.

    Raises:
        MissingSimulatorError: the package is not installed.
    """
    try:
        require("ogbench")
    except MissingSimulatorError as error:
        raise MissingSimulatorError(
            "OGBench's environments, and the rewards of its tasks, need the package 'ogbench', "
            f"which is not installed: {install_hint('ogbench')}"
        ) from error


def make_task(env_id: str) -> gymnasium.Env[Any, Any]:
    """The package's own environment, as it is.

    Raises:
        MissingSimulatorError: the package is not installed.
    """
    register()
    env: gymnasium.Env[Any, Any] = require("gymnasium").make(env_id)
    return env

"""DeepMind Control tasks, ``<domain>-<task>-v0``, are made through shimmy.

Observations are in dm_control's own order (gymnasium would sort the keys, which changes quadruped,
walker, hopper, humanoid and finger), as the 2023 release saw them. All seven recorded tasks, 50
steps from seed 0, are equal to the last bit (dm_control 1.0.50, mujoco 3.17;
``tests/envs/test_dmc.py``).

An episode is 1000 steps. Its end is a truncation (discount 1 at the last step) except for the few
tasks that really terminate (discount 0).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from synther.envs.simulators import MissingSimulatorError, require

if TYPE_CHECKING:
    import gymnasium

MAX_EPISODE_STEPS = 1000
_ENV_ID = re.compile(r"(?:dm_control/)?(?P<domain>\w+)-(?P<task>\w+)-v0")


def make_dmc(
    env_id: str, *, task_kwargs: dict[str, Any] | None = None, **kwargs: Any
) -> tuple[gymnasium.Env[Any, Any], list[str]]:
    """A suite task with dict observations, and the keys of these in dm_control's order.

    Args:
        env_id: such as ``quadruped-walk-v0`` (a leading ``dm_control/`` is taken as well).
        task_kwargs: for the task itself, see ``dm_control.suite.load``.
        kwargs: ``render_mode`` and ``render_kwargs`` of shimmy's environment.

    Raises:
        ValueError: no such task.
    """
    domain, task_name = domain_and_task(env_id)
    task = require("dm_control.suite").load(domain, task_name, task_kwargs=task_kwargs)
    adapter = require("shimmy.dm_control_compatibility").DmControlCompatibilityV0
    return adapter(task, **kwargs), list(task.observation_spec())


def suite_environment(simulation: Any) -> Any:
    """dm_control's own environment inside shimmy's; None where ``simulation`` is something else."""
    inner = getattr(simulation, "_env", None)
    return inner if hasattr(inner, "physics") and hasattr(inner, "task") else None


def is_dmc(env_id: str) -> bool:
    """Whether dm_control has a task of that name.

    Raises:
        MissingSimulatorError: the name looks like one, but dm_control is not installed.
    """
    if not _ENV_ID.fullmatch(env_id):
        return False
    return domain_and_task(env_id) in require("dm_control.suite").ALL_TASKS


def domain_and_task(env_id: str) -> tuple[str, str]:
    """``cheetah-run-v0`` -> ``("cheetah", "run")``."""
    match = _ENV_ID.fullmatch(env_id)
    if match is None:
        raise ValueError(f"'{env_id}': expected <domain>-<task>-v0")
    return match["domain"], match["task"]


def physics_errors() -> tuple[type[Exception], ...]:
    """The error that a task raises where its simulation becomes unstable."""
    return (require("dm_control.rl.control").PhysicsError,)


def env_ids() -> list[str]:
    """All suite tasks as environment ids; none where dm_control is not installed."""
    try:
        suite = require("dm_control.suite")
    except MissingSimulatorError:
        return []
    return [f"{domain}-{task}-v0" for domain, task in suite.ALL_TASKS]


def env_id_of_task(name: str) -> str:
    """``walker_walk`` -> ``walker-walk-v0``: a suite's domain may hold an underscore itself, as in
    ``ball_in_cup_catch``. Of a name that the suite does not have, the first one parts it."""
    known = {each.removesuffix("-v0").replace("-", "_"): each for each in env_ids()}
    return known.get(name, f"{name.replace('_', '-', 1)}-v0")

"""Ray does jobs on this machine, or on the nodes of a cluster that share the study's folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from synther.installed import install_hint
from synther.sweeps.execute import Outcome, run_job
from synther.sweeps.jobs import Job
from synther.sweeps.sections import StudyError

_OBJECT_STORE = 100_000_000  # bytes: nothing but job descriptions passes through it
_STARTS = 3
"""Ray is started again where a busy machine was too slow for a limit that no setting moves: its
helpers have 15 seconds to say where they listen (since 2.50), and the node has 30 to be there."""
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # or it reports its use over the network
    "RAY_agent_register_timeout_ms": "120000",  # until its helpers answer
    "RAY_raylet_start_wait_time_s": "120",  # until the raylet answers
    "RAY_gcs_server_port_wait_time_s": "120",  # until its server has a port
}
"""Ray reads these environment variables when it is imported."""


class RayEngine:
    """Starts each job as a Ray task; Ray keeps it waiting until its CPUs and its GPU are free."""

    def __init__(self, ray: Any, root: Path) -> None:
        self._ray, self._root = ray, root
        self._running: dict[Any, Job] = {}
        # A worker that was killed is the schedule's business, which counts the starts.
        self._task = ray.remote(max_retries=0)(run_job)

    def submit(self, job: Job) -> None:
        needs = {"num_cpus": job.resources.cpus, "num_gpus": job.resources.gpus, "name": job.name}
        self._running[self._task.options(**needs).remote(job, self._root)] = job

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """See :class:`synther.sweeps.schedule.Engine`."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(each), self._outcome(each)) for each in ended]

    def _outcome(self, reference: Any) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(reference)
            return outcome
        except self._ray.exceptions.RayError as error:
            return Outcome(f"its worker ended: {' '.join(str(error).split())[:200]}")


@contextlib.contextmanager
def ray_engine(
    plan: Iterable[Job], root: Path, *, address: str | None = None, cpus: int | None = None
) -> Iterator[RayEngine]:
    """Start an engine; when the block is left, however that comes, its jobs are ended with it.

    Args:
        plan: the jobs that there will be.
        root: the study's folder; on a cluster one that all nodes share.
        address: of a cluster, see ``ray start``; None starts Ray on this machine.
        cpus: CPUs to use on this machine; None for all.

    Raises:
        StudyError: Ray is not installed, the cluster does not answer, or this machine has not what
            a job asks for.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise StudyError(
            f"Ray is not installed: {install_hint('ray')}; --slurm writes job arrays for a "
            "cluster without it, --job does a single job"
        ) from error
    _start(ray, address, cpus)
    try:
        if address is None:
            _require_room(plan, ray.cluster_resources())
        yield RayEngine(ray, root)
    finally:
        ray.shutdown()  # ends the workers, and the kernel with each of them its command


def _start(ray: Any, address: str | None, cpus: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        here = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        arguments, quiet = ("local",), {**here, **quiet}
    else:
        arguments = (address,)
    for left in reversed(range(_STARTS)):
        try:
            ray.init(*arguments, **quiet)
            return
        except Exception as error:  # Ray has no narrower kind for "timed out during startup"
            ray.shutdown()
            if left == 0:
                where = "on this machine" if address is None else f"--address {address}"
                raise StudyError(f"Ray did not start, {where}: {error}") from error


def _require_room(plan: Iterable[Job], there: dict[str, float]) -> None:
    """Refuse a job that asks for more than this machine has: it would wait without end. Nothing is
    asked of a cluster, because it may yet grow."""
    for job in plan:
        for name, asked, option in (
            ("GPU", job.resources.gpus, "--gpus_per_run 0 --gpus_per_model 0 use none"),
            ("CPU", job.resources.cpus, "give it fewer cpus under resources in the study's file"),
        ):
            if asked > there.get(name, 0):
                raise StudyError(
                    f"{job.name} asks for {asked:g} {name}, this machine has "
                    f"{there.get(name, 0):g}; {option}"
                )

"""A schedule starts jobs in the order of the plan, each when the jobs that it needs are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from synther.sweeps.execute import Outcome
from synther.sweeps.jobs import Job, update_record


class Engine(Protocol):
    """Does jobs, as many at a time as it has room for."""

    def submit(self, job: Job) -> None: ...

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """The jobs that ended; an empty list when none did in ``seconds``."""
        ...


class Schedule:
    """Hands jobs to an engine until all are done, have failed, or wait for one that has.

    Args:
        plan: the jobs.
        root: the study's folder.
        retries: further starts of a job that failed, each going on where the last one ended.

    Raises:
        StudyError: a job's folder holds another job.
    """

    def __init__(self, plan: Iterable[Job], root: Path, retries: int) -> None:
        self.root, self.retries = root, retries
        self.done: set[str] = set()
        self.submitted: dict[str, Job] = {}
        self.failed: dict[str, str] = {}
        self.blocked: dict[str, str] = {}
        self.starts: dict[str, int] = {}
        self.waiting: dict[str, Job] = {}
        for job in plan:
            if job.folder(root).exists():
                job.remember(root)  # or raise, where the study has changed since
            if job.is_done(root):
                self.done.add(job.name)
            else:
                self.waiting[job.name] = job

    def run(self, engine: Engine, watch: Callable[[Schedule], None], pause: float = 1.0) -> None:
        """Do everything that can be done; ``watch`` is called after every change and pause."""
        self._submit(engine)
        while self.submitted:
            watch(self)
            for job, outcome in engine.wait(pause):
                del self.submitted[job.name]
                self._ended(job, outcome)
            self._submit(engine)
        watch(self)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        if not outcome.failure:
            self.done.add(job.name)
        elif self.starts[job.name] <= self.retries and not outcome.final:
            self.waiting[job.name] = job
        else:
            self.failed[job.name] = outcome.failure
            update_record(job, self.root, state="failed", reason=outcome.failure)

    def _submit(self, engine: Engine) -> None:
        for job in list(self.waiting.values()):
            lost = next((n for n in job.needs if n in self.failed or n in self.blocked), None)
            if lost is not None:
                reason = f"{lost}: {self.failed.get(lost) or self.blocked[lost]}"
                self.blocked[job.name] = reason
                update_record(job, self.root, state="blocked", reason=reason)
                del self.waiting[job.name]
            elif self.done.issuperset(job.needs):
                del self.waiting[job.name]
                self.starts[job.name] = self.starts.get(job.name, 0) + 1
                self.submitted[job.name] = job
                update_record(job, self.root, state="queued")
                engine.submit(job)

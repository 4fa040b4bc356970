"""Order, retries and blocked jobs, with an engine that does one job at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synther.sweeps.execute import Outcome, run_job
from synther.sweeps.jobs import Job, record
from synther.sweeps.schedule import Schedule
from synther.sweeps.sections import StudyError
from tests.sweep.helpers import SUCCEED, fake_job, starts_of


class Inline:
    """Does jobs in the order in which they came, in this process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.queue: list[Job] = []
        self.order: list[str] = []

    def submit(self, job: Job) -> None:
        self.queue.append(job)

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        job = self.queue.pop(0)
        self.order.append(job.name)
        return [(job, self.outcome(job))]

    def outcome(self, job: Job) -> Outcome:
        return run_job(job, self.root)


class Scripted(Inline):
    """Ends jobs as it is told, without doing them."""

    def __init__(self, root: Path, failures: dict[str, int], final: bool = False) -> None:
        super().__init__(root)
        self.failures, self.final = dict(failures), final

    def outcome(self, job: Job) -> Outcome:
        left = self.failures.get(job.name, 0)
        self.failures[job.name] = left - 1
        return Outcome("broke", final=self.final) if left > 0 else Outcome()


def chain() -> list[Job]:
    return [
        Job("data/d", "data", "x", ()),
        Job("diffusion/m", "diffusion", "x", (), needs=("data/d",)),
        Job("offline/real", "offline", "x", (), needs=("data/d",)),
        Job("offline/synther", "offline", "x", (), needs=("data/d", "diffusion/m")),
        Job("online/o", "online", "x", ()),
    ]


def test_jobs_start_when_what_they_need_is_there(tmp_path: Path) -> None:
    engine = Scripted(tmp_path, {})
    schedule = Schedule(chain(), tmp_path, retries=0)
    schedule.run(engine, lambda _: None)
    assert schedule.done == {job.name for job in chain()}
    assert engine.order[:2] == ["data/d", "online/o"]
    assert engine.order.index("diffusion/m") < engine.order.index("offline/synther")


@settings(max_examples=30)
@given(
    st.dictionaries(st.sampled_from([job.name for job in chain()]), st.integers(0, 4)),
    st.integers(0, 2),
)
def test_every_job_ends_done_failed_or_blocked(
    tmp_path_factory: pytest.TempPathFactory, failures: dict[str, int], retries: int
) -> None:
    root = tmp_path_factory.mktemp("schedule")
    engine = Scripted(root, failures)
    schedule = Schedule(chain(), root, retries)
    schedule.run(engine, lambda _: None)
    failed = {name for name, count in failures.items() if count > retries}
    blocked: set[str] = set()
    for job in chain():  # a second implementation, in the plan's order
        if any(need in failed | blocked for need in job.needs):
            blocked.add(job.name)
    assert set(schedule.failed) == failed - blocked
    assert set(schedule.blocked) == blocked
    assert schedule.done == {job.name for job in chain()} - failed - blocked
    for name in engine.order:
        assert engine.order.count(name) == min(failures.get(name, 0), retries) + 1


def test_a_blocked_job_says_what_failed(tmp_path: Path) -> None:
    schedule = Schedule(chain(), tmp_path, retries=0)
    schedule.run(Scripted(tmp_path, {"data/d": 1}), lambda _: None)
    assert schedule.blocked["diffusion/m"] == "data/d: broke"
    assert schedule.blocked["offline/synther"] == "data/d: broke"
    told = record(chain()[3], tmp_path)
    assert (told["state"], told["reason"]) == ("blocked", "data/d: broke")


def test_a_final_failure_is_not_tried_again(tmp_path: Path) -> None:
    engine = Scripted(tmp_path, {"online/o": 3}, final=True)
    schedule = Schedule(chain(), tmp_path, retries=2)
    schedule.run(engine, lambda _: None)
    assert engine.order.count("online/o") == 1


def test_what_is_done_is_skipped_and_what_failed_is_tried_anew(tmp_path: Path) -> None:
    plan = [
        fake_job(tmp_path, "data/a", SUCCEED),
        fake_job(tmp_path, "data/b", SUCCEED),
        fake_job(tmp_path, "data/c", "if len(starts.read_text()) > 2: " + SUCCEED, ("data/a",)),
    ]
    first = Schedule(plan, tmp_path, retries=1)
    first.run(Inline(tmp_path), lambda _: None)
    assert first.done == {"data/a", "data/b"}
    assert list(first.failed) == ["data/c"]
    second = Schedule(plan, tmp_path, retries=1)
    assert second.done == {"data/a", "data/b"}
    second.run(Inline(tmp_path), lambda _: None)
    assert second.done == {"data/a", "data/b", "data/c"}
    assert [starts_of(job, tmp_path) for job in plan] == [1, 1, 3]


def test_a_study_that_was_changed_is_refused_before_anything_starts(tmp_path: Path) -> None:
    plan = [fake_job(tmp_path, "data/a", SUCCEED)]
    Schedule(plan, tmp_path, 0).run(Inline(tmp_path), lambda _: None)
    changed = Job("data/a", "data", plan[0].script, ("other",), output="result")
    with pytest.raises(StudyError, match="other settings"):
        Schedule([changed], tmp_path, 0)

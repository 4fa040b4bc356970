"""Work of hours is announced once, by the measured rate; the clock is set by the test."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from synther.runs import bars
from synther.runs.bars import Bar, duration
from synther.runs.loggers import progress_bar

Steps = Callable[[Bar, int, float], None]


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Steps:
    now = [1000.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])

    def step(bar: Bar, times: int, seconds: float) -> None:
        for _ in range(times):
            now[0] += seconds
            bar.update()

    return step


def announcements(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "more on this machine" in line]


def test_work_of_hours_is_announced_once_within_the_first_minute(
    step: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar(100_000, "diffusion") as bar:
        step(bar, 12, 1.5)
        assert announcements(capsys) == []
        step(bar, 28, 1.5)
        (said,) = announcements(capsys)
        step(bar, 200, 1.5)
    assert said.startswith(
        "diffusion: about 42 hours more on this machine, at 0.667 steps a second"
    )
    assert "config/resmlp_demo_denoiser.gin" in said
    assert announcements(capsys) == []


def test_work_of_minutes_is_not(step: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(3000, "diffusion") as bar:
        step(bar, 1000, 1.0)
    assert announcements(capsys) == []


def test_what_is_done_already_does_not_count(
    step: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar(100_000, "x", initial=98_000) as bar:
        step(bar, 200, 1.0)
    assert announcements(capsys) == []


def test_a_slow_first_step_is_not_taken_for_the_rate(
    step: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows made on the fly: the first hundred updates wait a minute for theirs, all at once."""
    with progress_bar(20_000, "TD3_BC", work="offline") as bar:
        step(bar, 1, 60.0)
        step(bar, 98, 0.01)
        assert announcements(capsys) == []
        step(bar, 1, 0.01)
        (said,) = announcements(capsys)
    assert "about 3.4 hours more" in said  # 20 000 updates at a hundred a minute
    assert "--max_timesteps" in said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (50, "50 s"),
        (720, "12 minutes"),
        (5400, "1.5 hours"),
        (18 * 3600, "18 hours"),
        (3 * 86400, "3 days"),
    ],
)
def test_a_duration_is_said_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_notebook_has_the_width_and_the_pace_of_its_own_bars(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside = progress_bar(10, "x")
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    inside = progress_bar(10, "x")
    assert (outside.ncols, outside.mininterval) == (90, 30.0)
    assert (inside.ncols, inside.mininterval) == (None, 0.1)
    for bar in (outside, inside):
        bar.close()

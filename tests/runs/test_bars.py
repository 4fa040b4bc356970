"""Work of hours is announced once, by the measured rate; the clock is set by the test."""

from __future__ import annotations

import re
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


def test_a_slower_phase_is_announced_within_a_minute(
    step: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    """Online, 5000 steps without updates come first: their rate says nothing about the run's."""
    with progress_bar(100_000, "REDQ", work="online") as bar:
        step(bar, 5000, 0.006)
        assert announcements(capsys) == []
        step(bar, 460, 0.13)  # a minute
        (said,) = announcements(capsys)
        step(bar, 100, 0.13)
    hours = float(re.search(r"about ([\d.]+) hours", said)[1])  # type: ignore[index]
    assert hours == pytest.approx(94_600 * 0.13 / 3600, rel=0.1)
    assert "config/online/*_small.gin" in said
    assert announcements(capsys) == []


@pytest.mark.parametrize("pause", [10.0, 70.0, 900.0])
def test_a_pause_is_not_taken_for_a_slower_phase(
    pause: float, step: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    """An evaluation, or a diffusion model that is trained anew."""
    with progress_bar(10_000, "x") as bar:
        for _ in range(10):
            step(bar, 999, 0.05)
            step(bar, 1, pause if pause < 100 or bar.n == 3999 else 1.0)
    assert announcements(capsys) == []


def test_the_bar_shows_the_rate_of_the_last_two_minutes(step: Steps) -> None:
    with progress_bar(100_000, "x") as bar:
        step(bar, 5000, 0.01)
        bar._ema_dn(5000)
        bar._ema_dt(50.0)  # what tqdm has measured: 100 a second
        step(bar, 1000, 0.13)
        assert bar.format_dict["rate"] == pytest.approx(1 / 0.13, rel=0.02)
        step(bar, 10_000, 0.02)
        assert bar.format_dict["rate"] == pytest.approx(50, rel=0.02)


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

"""The pace of checkpoints, on a clock of the test's own."""

import pytest

from synther.runs import clock
from synther.runs.clock import Pace


class Watch:
    """A clock that stands until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock.time, "monotonic", lambda: self.now)


def due_after(watch: Watch, pace: Pace) -> float:
    """Whole seconds from now until the next is due."""
    started = watch.now
    while not pace.is_due():
        watch.now += 1
    return watch.now - started


def test_the_first_is_due_after_the_given_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    assert due_after(watch, Pace(30)) == 30


@pytest.mark.parametrize(
    ("cost", "expected"),
    [(0, 30), (0.5, 30), (0.625, 32), (2, 100)],  # from 0.6 s on, 2 % of the time are more
)
def test_what_is_slow_to_write_is_written_less_often(
    cost: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    pace = Pace(30)
    with pace.writing():
        watch.now += cost
    assert due_after(watch, pace) == expected
    assert cost / (cost + expected) <= 0.02


def test_an_error_leaves_it_due(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    pace = Pace(30)
    watch.now += 31
    with pytest.raises(OSError, match="full"), pace.writing():
        raise OSError("the disk is full")
    assert pace.is_due()

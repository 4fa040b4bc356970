"""When a training loop logs, evaluates and saves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timetable:
    """The steps at which the loop logs, evaluates and saves.

    Args:
        total: steps of the run.
        log_every: steps from one record of metrics to the next.
        evaluate_every: steps from one evaluation to the next; 0: there is one, at the end.
        save_every: steps from one checkpoint to the next.
        update_every: steps for each update. It is 1 but for pixel agents, which count their steps
            as the online agent that they come from.
    """

    total: int
    log_every: int
    evaluate_every: int
    save_every: int
    update_every: int = 1

    def is_due(self, every: int, step: int) -> bool:
        """Whether what happens ``every`` so many steps, and at the end, happens at ``step``."""
        return step == self.total or bool(every and step % every == 0)

    def next_due(self, step: int) -> int:
        """The first step after ``step`` at which something happens."""
        distances = filter(None, (self.log_every, self.evaluate_every, self.save_every))
        return min([self.total, *(step - step % every + every for every in distances)])

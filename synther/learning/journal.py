"""A run's records keep the order of their steps, though an evaluation may end late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from synther.learning.evaluation import Pending

Record = Mapping[str, Any]


class Evaluation(NamedTuple):
    """An evaluation's findings: a ``record`` of plain values, which checkpoints keep; ``metrics``
    for the log, numbers or ``[S]``; and a few words for the progress bar."""

    record: dict[str, Any]
    metrics: dict[str, Any]
    summary: str


class Journal:
    """Hands records on in the order in which a run without workers would write them.

    While an evaluation is under way, what is recorded after it waits for it. There is one at a
    time. A checkpoint of the step of an evaluation that is under way has that step's records, and a
    run that goes on from it evaluates again.

    Args:
        write: takes a record and its step.
        found: takes a finished evaluation and its step, before its metrics are written.
    """

    def __init__(
        self,
        write: Callable[[Record, int], None],
        found: Callable[[Evaluation, int], None],
    ) -> None:
        self._write, self._found = write, found
        self._under_way: Pending[Evaluation] | None = None
        self._step = -1  # of the evaluation under way
        self._waiting: list[tuple[Record, int]] = []
        self._newest: tuple[int, list[Record]] = (-1, [])  # a step, and its records

    def log(self, record: Record, step: int) -> None:
        """Record what is no evaluation."""
        records = self._newest[1] if step == self._newest[0] else []
        self._newest = (step, [*records, record])
        if self._under_way is None:
            self._write(record, step)
        else:
            self._waiting.append((record, step))

    def begin(self, evaluation: Evaluation | Pending[Evaluation], step: int) -> None:
        """Record an evaluation, which may be under way; the one before has been settled."""
        if isinstance(evaluation, Evaluation):
            evaluation = _of(evaluation)
        self._under_way, self._step = evaluation, step
        self.settle(wait=False)

    def settle(self, *, wait: bool) -> None:
        """Write the evaluation and what waits for it, if it is finished or ``wait`` says so."""
        if self._under_way is None or not (wait or self._under_way.ready()):
            return
        found = self._under_way.result()
        self._under_way = None
        self._found(found, self._step)
        self._write(found.metrics, self._step)
        waiting, self._waiting = self._waiting, []
        for record, step in waiting:
            self._write(record, step)

    def unsettled(self, step: int) -> list[Record] | None:
        """The records of ``step``, whose evaluation is under way; None where none is."""
        if self._under_way is None:
            return None
        return self._newest[1] if self._newest[0] == step else []


def _of(evaluation: Evaluation) -> Pending[Evaluation]:
    return Pending(lambda: True, lambda: evaluation)

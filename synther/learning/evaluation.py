"""A run's evaluations are played in worker processes beside training, or in its own process.

Where they are played changes nothing of what they find.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from synther.envs.evaluation import Evaluator, Policy
from synther.envs.evaluation_pool import EvaluationPool, EvaluationWorkerError, Played, Playing
from synther.runs.runtime import available_cpus

VARIABLE = "SYNTHER_EVAL_WORKERS"
"""The number of workers where a run's settings leave it open. A study sets it to 0: its runs share
the cores."""
FEW_CORES = 4
"""With fewer of them than this there is none to spare."""
SHORT = 100_000
"""Steps of all evaluations of a run, below which workers, which take seconds to start, gain
nothing."""
MOST_WORKERS = 8

FoundT = TypeVar("FoundT")


class Pending(Generic[FoundT]):
    """What an evaluation finds, which may be under way still.

    Args:
        ready: says whether ``result`` would not wait.
        result: waits, and gives what was found.
    """

    def __init__(self, ready: Callable[[], bool], result: Callable[[], FoundT]) -> None:
        self.ready, self.result = ready, result


class Evaluations:
    """Plays the evaluations of one run.

    Args:
        evaluator: plays in this process, where there are no workers.
        workers: how many; None: as the cores, the number of episodes and ``$SYNTHER_EVAL_WORKERS``
            allow. Workers that were not asked for and fail are done without, with a warning.
        count: of the evaluations of the run.
    """

    def __init__(self, evaluator: Evaluator, workers: int | None, count: int) -> None:
        self._evaluator, self._asked = evaluator, workers is not None
        self.workers = _by_itself(evaluator, count) if workers is None else workers
        self._pool: EvaluationPool | None = None

    def begin(self, policy: Policy, seeds: Sequence[int]) -> Pending[Played]:
        """Let workers play, with a policy that stays as it is. Without workers, play it now."""
        if self._pool is not None:
            try:
                playing = self._pool.begin(policy, seeds)
            except EvaluationWorkerError as error:
                self._give_up(error)
            else:
                return Pending(playing.ready, lambda: self._result(playing, policy, seeds))
        played = self.play(policy, seeds)
        return Pending(lambda: True, lambda: played)

    def play(self, policy: Policy, seeds: Sequence[int]) -> Played:
        """Play and wait; see :meth:`Evaluator.play`."""
        if self._pool is not None:
            return self.begin(policy, seeds).result()
        return Played(*self._evaluator.play(policy, seeds))

    def _result(self, playing: Playing, policy: Policy, seeds: Sequence[int]) -> Played:
        try:
            return playing.result()
        except EvaluationWorkerError as error:
            self._give_up(error)
            return self.play(policy, seeds)

    def _give_up(self, error: EvaluationWorkerError) -> None:
        if self._asked:
            raise error
        warnings.warn(f"{error}; evaluations go on in the training process", stacklevel=3)
        self._close_pool()

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
        self._pool = None

    def close(self) -> None:
        """End the workers, and close the environments."""
        self._close_pool()
        self._evaluator.close()

    def __enter__(self) -> Evaluations:
        if self.workers:
            self._pool = EvaluationPool(self._evaluator, self.workers)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _by_itself(evaluator: Evaluator, count: int) -> int:
    """The number of workers of a run that leaves it open."""
    if text := os.environ.get(VARIABLE, "").strip():
        if not text.isdecimal():
            raise ValueError(f"{VARIABLE}={text}: expected a whole number of worker processes")
        return int(text)
    cores = available_cpus()
    steps = count * evaluator.num_seeds * evaluator.episodes * evaluator.longest
    if cores < FEW_CORES or steps < SHORT:
        return 0
    return min(MOST_WORKERS, cores // 2, evaluator.num_seeds * evaluator.slots)

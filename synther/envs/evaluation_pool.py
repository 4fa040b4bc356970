"""Worker processes play an evaluation beside training, with the results of :class:`Evaluator`.

Each worker has a share of the episodes, and asks a policy of its own for the actions of all of
them, as one process would: a product's bits may depend on its number of rows, and not on what is in
the other rows. So nothing passes between processes from step to step, and the returns are those of
one process to the bit.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from synther.envs.evaluation import Evaluator, Policy
from synther.envs.evaluation_worker import Answer, receive, send
from synther.envs.simulators import require

_PROGRAM = "synther.envs.evaluation_worker"
_ROOT = str(Path(__file__).parents[2])


class EvaluationWorkerError(ChildProcessError):
    """A worker could not begin, or has ended without an answer; the message says what is known."""


class Played(NamedTuple):
    """Undiscounted returns and lengths in steps of all episodes, each ``[S, E]``."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


class EvaluationPool:
    """Plays what an ``Evaluator`` with the same arguments plays, in ``workers`` processes.

    The processes start at once and get ready beside whatever the caller does. They end with this
    process, however it ends, and not by Ctrl-C, which is for this process alone.

    Args:
        evaluator: of this process, by which the workers open theirs; its own environments are not
            used.
        workers: at most as many as it has environments.
    """

    def __init__(self, evaluator: Evaluator, workers: int) -> None:
        self._evaluator = evaluator
        self._workers: list[_Worker] = []
        self._start(min(workers, evaluator.num_seeds * evaluator.slots))

    def __len__(self) -> int:
        return len(self._workers)

    def _start(self, count: int) -> None:
        self.close()
        self._workers = [_Worker(self._evaluator, (k, count)) for k in range(count)]

    def begin(self, policy: Policy, seeds: Sequence[int]) -> Playing:
        """Let the workers play; see :meth:`Evaluator.play`. The policy is copied as it is now.

        Raises:
            EvaluationWorkerError: the policy cannot be given to another process.
        """
        return Playing(self, _pickled(policy), list(seeds))

    def play(self, policy: Policy, seeds: Sequence[int]) -> Played:
        """Let the workers play, and wait; see :meth:`begin` and :meth:`Playing.result`."""
        return self.begin(policy, seeds).result()

    def close(self) -> None:
        """End the workers, whatever they do."""
        for worker in self._workers:
            worker.kill()
        self._workers = []

    def __enter__(self) -> EvaluationPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Playing:
    """An evaluation that the workers of a pool are playing."""

    def __init__(self, pool: EvaluationPool, policy: bytes, seeds: list[int]) -> None:
        self._pool, self._policy, self._seeds = pool, policy, seeds
        self._answers = [worker.play(policy, seeds) for worker in pool._workers]

    def ready(self) -> bool:
        """Whether :meth:`result` would not wait."""
        return all(each.done() for each in self._answers)

    def result(self) -> Played:
        """Wait for all workers.

        Raises:
            EvaluationWorkerError: a worker could not begin, or has ended.
            Exception: what the policy or an environment raised, as in one process.
        """
        answers = [each.result() for each in self._answers]
        for answer in answers:
            for category, text, file, line in answer.said:
                warnings.warn_explicit(text, category, file, line)
        for answer in answers:
            if answer.error is not None:
                raise answer.error from EvaluationWorkerError(f"in a worker:\n{answer.trace}")
        parts = [answer.value for answer in answers]
        if len(parts) > 1 and any(drew for _, _, drew in parts):
            # The environments share a generator: their order decides what each draws from it.
            self._pool._start(1)
            self._answers = [worker.play(self._policy, self._seeds) for worker in
                             self._pool._workers]  # fmt: skip
            return self.result()
        returns, lengths = parts[0][:2]
        evaluator = self._pool._evaluator
        for k, (part_returns, part_lengths, _) in enumerate(parts):
            for seed, episode in np.ndindex(*returns.shape):
                if (seed * evaluator.slots + episode % evaluator.slots) % len(parts) == k:
                    returns[seed, episode] = part_returns[seed, episode]
                    lengths[seed, episode] = part_lengths[seed, episode]
        return Played(returns, lengths)


class _Worker:
    """One process, and the thread of this one that talks to it."""

    def __init__(self, evaluator: Evaluator, part: tuple[int, int]) -> None:
        folders = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        # What simulators say as they are imported, this process has said already.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": folders, "CUDA_VISIBLE_DEVICES": ""},
            start_new_session=True,  # Ctrl-C is the training process's
        )
        self._talk = ThreadPoolExecutor(1, thread_name_prefix="evaluation")
        self._begun = self._talk.submit(self._begin, evaluator, part)

    def play(self, policy: bytes, seeds: list[int]) -> Future[Answer]:
        return self._talk.submit(self._play, policy, seeds)

    def _begin(self, evaluator: Evaluator, part: tuple[int, int]) -> None:
        setup = {
            "threads": torch.get_num_threads(),
            "spec": _registered(evaluator.env_id),
            "arguments": (evaluator.env_id, evaluator.episodes, evaluator.num_seeds),
            "options": {**evaluator.options, "part": part},
        }
        self._send(pickle.dumps(sys.path))
        answer = self._ask(_pickled(setup))
        if answer.error is not None:
            raise EvaluationWorkerError(
                f"a worker cannot open {evaluator.env_id}: {answer.error}"
            ) from answer.error

    def _play(self, policy: bytes, seeds: list[int]) -> Answer:
        self._begun.result()
        return self._ask(pickle.dumps((policy, seeds)))

    def _ask(self, content: bytes) -> Answer:
        self._send(content)
        assert self._process.stdout is not None
        answer = receive(self._process.stdout)
        if answer is None:
            raise self._ended()
        return Answer(*pickle.loads(answer))

    def _send(self, content: bytes) -> None:
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, content)
        except OSError as error:
            raise self._ended() from error

    def _ended(self) -> EvaluationWorkerError:
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        last = f"; the last that it said: {lines[-1]}" if lines else ""
        return EvaluationWorkerError(f"a worker process of the evaluation {how}{last}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._talk.shutdown(cancel_futures=True)  # its thread sees the end of the stream
        for stream in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(OSError):  # what was not sent has nowhere to go any more
                if stream is not None:
                    stream.close()


def _pickled(value: Any) -> bytes:
    """By value where the class is of a script or a notebook, which a worker cannot import."""
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:  # whatever somebody's object raises
        raise EvaluationWorkerError(
            f"{type(value).__name__} cannot be given to a worker process ({error})"
        ) from error


def _registered(env_id: str) -> Any:
    """gymnasium's entry of an environment, None where it has none."""
    return require("gymnasium").registry.get(env_id)

"""A worker is a process that plays a share of an evaluation's episodes for a training process.

``evaluation_pool.py`` starts it with this module as its program. A message is its length, 8 bytes,
and its content; each one on stdin gets one answer on what was stdout. The first message says where
modules are imported from and what to play, each further one is a policy and its seeds. The worker
ends with the process that started it: as soon as stdin does.
"""

from __future__ import annotations

import os
import pickle
import queue
import struct
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import IO, Any, NamedTuple

_LENGTH = struct.Struct("<Q")


class Answer(NamedTuple):
    """What a worker says of one message.

    ``value`` is the result, ``error`` what was raised in its place, ``trace`` where, as text;
    ``said`` are the warnings, each its category, its text, and the file and line of its cause.
    """

    value: Any
    error: BaseException | None
    trace: str
    said: list[tuple[type[Warning], str, str, int]]


def send(stream: IO[bytes], content: bytes) -> None:
    """Write one message."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message; None where the stream has ended, before its message or inside it."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    content = stream.read(length)
    return content if len(content) == length else None


def main() -> None:
    """Answer messages until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a simulator prints is no answer
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, messages), daemon=True).start()
    sys.path[:] = pickle.loads(messages.get())
    worker = _Worker()
    send(answers, _answer(worker.begin, messages.get()))
    while True:
        send(answers, _answer(worker.play, messages.get()))


def _listen(stream: IO[bytes], messages: queue.SimpleQueue[bytes]) -> None:
    """Take messages as they come, so that nobody waits for an episode to hand one over, and end
    the process when there will be no more, in the middle of an episode too."""
    while (message := receive(stream)) is not None:
        messages.put(message)
    os._exit(0)


def _answer(work: Callable[[Any], Any], message: bytes) -> bytes:
    value, failure, trace = None, None, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = work(pickle.loads(message))
        except Exception as error:
            failure, trace = error, traceback.format_exc()
    said = [(each.category, str(each.message), each.filename, each.lineno) for each in caught]
    return _pickled(Answer(value, failure, trace, said))


def _pickled(answer: Answer) -> bytes:
    import cloudpickle

    try:
        content = cloudpickle.dumps(answer)
        pickle.loads(content)  # an error of several arguments may not come out again
    except Exception:
        lost = RuntimeError(f"{type(answer.error).__name__}: {answer.error}")
        said: list[tuple[type[Warning], str, str, int]]
        said = [(UserWarning, *each[1:]) for each in answer.said]
        content = pickle.dumps(Answer(None, lost, answer.trace, said))
    return bytes(content)


class _Worker:
    """The environments of this process."""

    def begin(self, setup: dict[str, Any]) -> None:
        """Open the environments of this worker's part, on as many threads as the training process
        has: a product may depend on their number."""
        import torch

        from synther.envs.evaluation import Evaluator
        from synther.envs.simulators import require

        torch.set_num_threads(setup["threads"])
        if setup["spec"] is not None:  # the training process may have registered it itself
            require("gymnasium").registry.setdefault(setup["spec"].id, setup["spec"])
        self.evaluator = Evaluator(*setup["arguments"], **setup["options"])

    def play(self, job: tuple[bytes, list[int]]) -> tuple[Any, Any, bool]:
        """Returns and lengths ``[S, E]``, and whether environments share what they draw from."""
        policy, seeds = job
        returns, lengths = self.evaluator.play(pickle.loads(policy), seeds)
        return returns, lengths, self.evaluator.drew_shared


if __name__ == "__main__":
    main()

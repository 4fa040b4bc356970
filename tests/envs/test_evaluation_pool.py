"""Worker processes play what one process plays, to the bit, and end when they should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from synther.envs import Evaluator
from synther.envs.evaluation_pool import EvaluationPool, EvaluationWorkerError
from synther.learning.nets import StackedMLP
from synther.learning.streams import generators_for
from tests.environments import registered

ROOT = Path(__file__).parents[2]


class Network:
    """A policy of one network a seed, whose products are those of a real agent."""

    def __init__(self, seeds: int, observations: int, actions: int) -> None:
        widths = [observations, 256, 256, actions]
        self.network = StackedMLP([seeds], widths, generators_for(range(seeds), "init"))

    @torch.no_grad()
    def __call__(self, observations: Any) -> Any:
        return (3 * self.network(torch.from_numpy(observations))).tanh().numpy()


def failing(observations: Any) -> Any:
    raise ValueError("this policy does not act")


def two_threads(observations: Any) -> Any:
    return np.full((*observations.shape[:-1], 1), torch.get_num_threads() / 100)


class Dice(gymnasium.Env):  # type: ignore[type-arg]
    """Draws its rewards from numpy's global generator; its third throw of an episode fails."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = 2 + int(self.np_random.integers(3))
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        reward = np.random.random() + 1000 * float(action[0])  # noqa: NPY002
        reward = float("nan") if self.left > 2 else reward
        return np.zeros(3, np.float32), reward, self.left == 0, False, {}


@pytest.fixture
def dice() -> Iterator[str]:
    with registered(Dice, max_episode_steps=20) as (name,):
        yield name


def test_workers_play_a_real_simulator_to_the_bit_and_say_what_went_wrong() -> None:
    pytest.importorskip("mujoco")
    with Evaluator("Hopper-v2", 3, 2) as evaluator:
        policies = [Network(2, evaluator.observation_dim, evaluator.action_dim) for _ in range(2)]
        policies[1].network.layers[0].weight.data *= 2
        alone = [evaluator.play(policy, [4, 9]) for policy in policies]
        assert not np.array_equal(alone[0][0], alone[1][0])
        with EvaluationPool(evaluator, 2) as pool:
            for policy, (returns, lengths) in zip(policies, alone, strict=True):
                played = pool.play(policy, [4, 9])
                np.testing.assert_array_equal(played.returns, returns)
                np.testing.assert_array_equal(played.lengths, lengths)
            under_way = pool.begin(policies[0], [4, 9])  # as it is now
            policies[0].network.layers[0].weight.data.zero_()
            np.testing.assert_array_equal(under_way.result().returns, alone[0][0])
            with pytest.raises(ValueError, match=r"^this policy does not act$"):
                pool.play(failing, [4, 9])
            with pytest.raises(EvaluationWorkerError, match="generator cannot be given to"):
                pool.play((each for each in ()), [4, 9])  # type: ignore[arg-type]
            os.kill(pool._workers[1]._process.pid, signal.SIGKILL)
            with pytest.raises(EvaluationWorkerError, match="was killed by signal 9"):
                pool.play(policies[1], [4, 9])


def test_environments_that_share_a_generator_are_played_by_one_worker(dice: str) -> None:
    """And an environment of the caller's own is known there, its warnings are said here, and
    products are taken on as many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Evaluator(dice, 5) as evaluator:
            with pytest.warns(UserWarning, match="reward.*the return of this episode is nan"):
                alone = evaluator.play(two_threads, [3])
            assert np.isnan(alone[0]).any()
            assert (alone[0] > 20).any()
            with EvaluationPool(evaluator, 2) as pool:
                for _ in range(2):
                    with pytest.warns(UserWarning, match="reward.*the return of this episode is"):
                        played = pool.play(two_threads, [3])
                    np.testing.assert_array_equal(played.returns, alone[0])
                    np.testing.assert_array_equal(played.lengths, alone[1])
                assert len(pool) == 1
    finally:
        torch.set_num_threads(before)


_SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job's children
from synther.envs import Evaluator
from synther.envs.evaluation_pool import EvaluationPool

class Endless:  # of a script, which no worker can import
    def __call__(self, observations):
        import time
        time.sleep(1000)

with EvaluationPool(Evaluator("Pendulum-v1", 1), 1) as pool:
    pool.play(lambda observations: observations[..., :1] * 0, [0])
    under_way = pool.begin(Endless(), [0])
    print(pool._workers[0]._process.pid, flush=True)
    under_way.result()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_started_them(number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    assert _is_alive(worker)
    process.send_signal(number)
    process.wait(timeout=60)
    process.stdout.close()
    deadline = time.monotonic() + 60
    while _is_alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"  # ended; whoever inherited it will notice

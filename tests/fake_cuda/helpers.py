"""What the tests on a device share: agents there, batches there, and a look at the emulation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from synther.learning.learner import Agent, Metrics
from synther.learning.replay import Batch
from synther.learning.streams import BlockStream, generators_for
from tests.corl.helpers import ALGORITHMS, make_agent, random_batch

only_emulated = pytest.mark.skipif(
    "tests.fake_cuda.host_api" not in sys.modules, reason="not on the emulated device"
)
two_devices = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.device_count() < 2, reason="needs two CUDA devices"
)

Update = Callable[[Batch, tuple[Tensor, ...], Any], Metrics]


def agent_on(device: str, algorithm: str = "td3_bc", **keys: Any) -> Agent:
    """A small agent of one seed, for batches of 8."""
    config_class, build, small = ALGORITHMS[algorithm]
    return make_agent(build, config_class(batch_size=8, **{**small, **keys}), [0], device=device)


def noise_of(agent: Agent) -> BlockStream:
    device = next(agent.parameters()).device
    return BlockStream(agent.noise, generators_for([0], "noise", device))


def batch_on(device: str, seed: int) -> Batch:
    return Batch(*(each.to(device) for each in random_batch(1, 8, seed=seed)))


def train(agent: Agent, update: Update, noise: BlockStream, steps: Iterable[int]) -> None:
    """The updates of these steps, on batches that depend on the step alone."""
    device = str(next(agent.parameters()).device)
    for step in steps:
        agent.schedule(step)
        update(batch_on(device, step), noise.next(), agent.variant(step))


def weights_of(agent: torch.nn.Module) -> list[Tensor]:
    return [each.detach().clone() for each in agent.parameters()]


def largest_difference(some: Iterable[Tensor], others: Iterable[Tensor]) -> float:
    pairs = zip(some, others, strict=True)
    return max(float((a.detach().cpu() - b.detach().cpu()).abs().max()) for a, b in pairs)

"""CUDA graphs: on the second device, beside the work of other threads, with a CPU's checkpoint."""

from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from synther.corl.algorithms.td3_bc import TD3BC
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.learning.graphs import WARM_UP, graphed
from synther.learning.replay import Batch
from tests.diffusion.models import LAYOUT, tiny_model
from tests.fake_cuda.helpers import (
    agent_on,
    largest_difference,
    noise_of,
    train,
    two_devices,
    weights_of,
)

pytestmark = pytest.mark.gpu


@two_devices
@pytest.mark.parametrize("algorithm", ["td3_bc", "iql"])
def test_graphs_on_the_second_device_train_as_eager_updates_do(algorithm: str) -> None:
    eager, captured = (agent_on("cuda:1", algorithm, max_timesteps=40) for _ in range(2))
    update, streams = graphed(captured), [noise_of(each) for each in (eager, captured)]
    train(captured, update, streams[1], range(1, 13))
    after_captures = weights_of(captured)
    train(captured, update, streams[1], range(13, 25))
    train(eager, eager.update, streams[0], range(1, 25))
    moved = largest_difference(after_captures, captured.parameters())
    assert moved > 1e-3
    assert largest_difference(eager.parameters(), captured.parameters()) < 1e-3 * moved
    assert devices_touched() <= {1}


@two_devices
def test_graphed_sampling_on_the_second_device_gives_the_plain_ones_rows() -> None:
    model = tiny_model().to("cuda:1")
    keys: dict[str, Any] = {"sample_batch_size": 30, "num_sample_steps": 12, "clip_actions": False}
    plain, captured = (
        SimpleDiffusionGenerator(LAYOUT, copy.deepcopy(model), cuda_graph=each, **keys)
        for each in (False, True)
    )
    expected = plain.sample(70, seed=1)[0]
    np.testing.assert_allclose(
        captured.sample(70, seed=1)[0], expected, rtol=0, atol=2e-3 * expected.std()
    )
    assert devices_touched() <= {1}


def devices_touched() -> set[int]:
    """As the emulation saw it; on a real device nobody counts."""
    host_api: Any = sys.modules.get("tests.fake_cuda.host_api")
    return set() if host_api is None else host_api.STATE.touched


def test_other_threads_use_the_device_while_an_update_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the generation of the next pool does; the variant with the actor's update comes so late
    that it may be under way."""
    side, plain_loss, sums = torch.cuda.Stream(), TD3BC.critic_loss, []

    def generate() -> float:
        with torch.cuda.stream(side):
            return float(torch.ones(1000, device="cuda").cumsum(0)[-1])

    def loss(self: TD3BC, batch: Batch, noise: Tensor) -> Any:
        if torch.cuda.is_current_stream_capturing():
            sums.append(pool.submit(generate).result())
        return plain_loss(self, batch, noise)

    monkeypatch.setattr(TD3BC, "critic_loss", loss)
    agent = agent_on("cuda", policy_freq=5)
    with ThreadPoolExecutor(1) as pool:
        train(agent, graphed(agent), noise_of(agent), range(1, 5 * (WARM_UP + 1) + 1))
    assert sums == [1000.0, 1000.0]  # at the captures of both variants

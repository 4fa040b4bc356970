"""The emulated device is as strict as a GPU: it catches faults that are planted in an update."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from synther.corl.algorithms import iql, td3_bc
from synther.corl.algorithms.iql import IQL
from synther.corl.algorithms.td3_bc import TD3BC
from synther.learning import graphs
from synther.learning.replay import Batch
from tests.fake_cuda.helpers import (
    agent_on,
    largest_difference,
    noise_of,
    only_emulated,
    train,
    weights_of,
)

pytestmark = [pytest.mark.gpu, only_emulated]


def graph_against_eager(algorithm: str) -> float:
    """The largest difference of a parameter after 20 updates, in units of how far one moved."""
    keys = {"max_timesteps": 30} if algorithm == "iql" else {}
    eager, captured = (agent_on("cuda", algorithm, **keys) for _ in range(2))
    start = weights_of(eager)
    train(eager, eager.update, noise_of(eager), range(1, 21))
    train(captured, graphs.graphed(captured), noise_of(captured), range(1, 21))
    moved = largest_difference(eager.parameters(), start)
    return largest_difference(eager.parameters(), captured.parameters()) / moved


critic_loss = TD3BC.critic_loss


def rate_that_is_a_number(self: IQL, step: int) -> None:
    self.optimizer.param_groups[-1]["lr"] = self.actor_rate(step)


def own_generator() -> Any:
    generator = torch.Generator("cuda").manual_seed(0)

    def faulty(self: TD3BC, batch: Batch, noise: Tensor) -> Any:
        drawn = torch.randn(noise.shape, generator=generator, device="cuda")
        return critic_loss(self, batch, drawn)

    return faulty


def a_number_is_read(self: TD3BC, batch: Batch, noise: Tensor) -> Any:
    loss, metrics = critic_loss(self, batch, noise)
    float(loss.detach())
    return loss, metrics


def a_number_is_copied(self: TD3BC, batch: Batch, noise: Tensor) -> Any:
    one = torch.tensor(1.0, device=noise.device)
    return critic_loss(self, batch._replace(rewards=batch.rewards * one), noise)


def a_tensor_of_the_host(self: TD3BC, batch: Batch, noise: Tensor) -> Any:
    return critic_loss(self, batch._replace(rewards=batch.rewards + torch.zeros(1)), noise)


def a_counter_of_the_host() -> Any:
    count = itertools.count()

    def faulty(self: TD3BC, batch: Batch, noise: Tensor) -> Any:
        return critic_loss(self, batch, noise * (next(count) % 3))

    return faulty


def plain_adam(parameters: Any, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(list(parameters), lr=rate, fused=True)


def stale_inputs(self: Any, inputs: Any, kind: Any) -> None:
    """Replays see the batch and the noise of the capture."""


def test_without_a_fault_graphs_and_eager_updates_agree() -> None:
    for algorithm in ("td3_bc", "iql"):
        assert graph_against_eager(algorithm) < 1e-5


@pytest.mark.parametrize(
    ("algorithm", "where", "name", "fault"),
    [
        ("iql", iql.IQL, "schedule", lambda: rate_that_is_a_number),
        ("td3_bc", td3_bc.TD3BC, "critic_loss", a_counter_of_the_host),
        ("td3_bc", graphs.Replayed, "_feed", lambda: stale_inputs),
    ],
    ids=["a rate that is a number", "a counter of the host", "stale inputs"],
)
def test_what_a_capture_froze_shows_as_a_difference(
    algorithm: str,
    where: Any,
    name: str,
    fault: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(where, name, fault())
    assert graph_against_eager(algorithm) > 1e-3


@pytest.mark.parametrize(
    ("where", "name", "fault", "message"),
    [
        (TD3BC, "critic_loss", own_generator, "not registered with the graph"),
        (TD3BC, "critic_loss", lambda: a_number_is_read, "not permitted when stream is capturing"),
        (TD3BC, "critic_loss", lambda: a_number_is_copied, "a copy from the host"),
        (TD3BC, "critic_loss", lambda: a_tensor_of_the_host, "on the same device"),
        (td3_bc, "adam", lambda: plain_adam, "capturable is False"),
    ],
    ids=["own generator", "number read", "number copied", "host tensor", "plain adam"],
)
def test_what_no_capture_can_hold_is_an_error(
    where: Any,
    name: str,
    fault: Callable[[], Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(where, name, fault())
    with pytest.raises(RuntimeError, match=message):
        graph_against_eager("td3_bc")


def test_generators_and_tensors_keep_to_their_device() -> None:
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.randn(3, generator=torch.Generator(), device="cuda")
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator"):
        torch.randn(3, generator=torch.Generator("cuda"))
    with pytest.raises(RuntimeError, match="cpu and cuda:0"):
        torch.zeros(3, device="cuda") + torch.zeros(3)
    with pytest.raises(RuntimeError, match="cuda:0 and cuda:1"):
        torch.zeros(3, device="cuda:0") + torch.zeros(3, device="cuda:1")
    with pytest.raises(RuntimeError, match="RNG state is wrong size"):
        torch.Generator("cuda").set_state(torch.Generator().get_state())


def test_waits_are_refused_where_that_was_asked_for() -> None:
    values = torch.arange(4.0, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    doubled = (2 * values).cumsum(0)
    for waiting in (
        lambda: values.sum().item(),
        lambda: values.cpu(),
        lambda: torch.tensor(1.0, device="cuda"),
        lambda: values[values > 1],
        lambda: values[torch.tensor([1, 2])],
        lambda: torch.cuda.current_stream().synchronize(),
    ):
        with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
            waiting()
    torch.cuda.set_sync_debug_mode("default")
    assert doubled.tolist() == [0, 2, 6, 12]


def test_a_copy_in_passing_arrives_when_somebody_waited_for_it() -> None:
    values, there = torch.arange(4.0, device="cuda"), torch.zeros(4).pin_memory()
    there.copy_(values, non_blocking=True)
    later = values.to("cpu", non_blocking=True)
    values.zero_()  # in the same stream, after the copy
    assert there.tolist() == [0, 0, 0, 0]
    assert later.isnan().all()
    torch.cuda.current_stream().synchronize()
    assert there.tolist() == later.tolist() == [0, 1, 2, 3]


def test_every_thread_begins_at_device_0() -> None:
    torch.cuda.set_device(1)
    assert torch.zeros(1, device="cuda").device.index == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: torch.zeros(1, device="cuda").device.index).result() == 0


def test_a_graph_runs_at_its_replays_alone() -> None:
    values, graph = torch.ones(3, device="cuda"), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        values.add_(1)
        doubled = 2 * values
    assert values.tolist() == [1, 1, 1]
    assert doubled.isnan().all()
    for expected in (2, 3):
        graph.replay()
        assert values.tolist() == [expected] * 3
        assert doubled.tolist() == [2 * expected] * 3


def test_draws_go_on_with_the_generators_state() -> None:
    generator = torch.Generator("cuda").manual_seed(3)
    first = torch.randn(5, generator=generator, device="cuda")
    state = generator.get_state()
    second = torch.randn(5, generator=generator, device="cuda")
    assert not torch.equal(first, second)
    generator.set_state(state)
    assert torch.equal(torch.randn(5, generator=generator, device="cuda"), second)


def test_networks_move_with_their_parameters_and_gradients() -> None:
    layer: Any = torch.nn.Linear(3, 2)
    parameters = list(layer.parameters())
    layer.to("cuda")
    assert all(a is b for a, b in zip(layer.parameters(), parameters, strict=True))
    inputs = torch.ones(4, 3, device="cuda")
    layer(inputs).sum().backward()
    assert layer.bias.grad.tolist() == [4, 4]
    assert isinstance(layer.to("cpu").weight, torch.nn.Parameter)
    assert {each.device.index for each in agent_on("cuda:1").parameters()} == {1}

"""The agent's losses and updates against a plain float64 twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synther.learning.replay import Batch
from synther.online.redq_sac import REDQSACAgent
from tests.online.helpers import DIMS, in_float64, make_agent, random_block, stirred
from tests.online.twin import Twin

pytestmark = pytest.mark.arithmetic

CLOSE: dict[str, Any] = {"rtol": 1e-7, "atol": 1e-10}

# Settings, and at which updates of a block the policy is updated too.
BLOCKS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "one update": ({"num_Q": 2, "utd_ratio": 1}, [0]),
    "REDQ": ({"num_Q": 5, "num_min": 2, "utd_ratio": 20}, [19]),
    "delay 3": ({"num_Q": 3, "utd_ratio": 7, "policy_update_delay": 3}, [2, 5, 6]),
    "delay 1": ({"num_Q": 2, "utd_ratio": 3, "policy_update_delay": 1}, [0, 1, 2]),
    "MaxMin": ({"num_Q": 4, "num_min": 4, "utd_ratio": 2}, [1]),
    "fractional": ({"num_Q": 4, "num_min": 1.5, "utd_ratio": 4}, [3]),
    "average": ({"num_Q": 3, "q_target_mode": "ave", "utd_ratio": 3}, [2]),
    "REM": ({"num_Q": 3, "q_target_mode": "rem", "utd_ratio": 3}, [2]),
    "fixed temperature": ({"auto_alpha": False, "alpha": 0.7, "utd_ratio": 2}, [1]),
    "other rates": (
        {"gamma": 0.9, "polyak": 0.7, "lr": 1e-2, "target_entropy": 0.3, "utd_ratio": 3}, [2]
    ),
}  # fmt: skip


def follow(
    agent: REDQSACAgent, twin: Twin, policy_updates: list[int], blocks: int, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Update both with the same rows and random numbers; the metrics of the last block."""
    ours: dict[str, Tensor] = {}
    theirs: dict[str, Tensor] = {}
    config = agent.config
    for block in range(blocks):
        batches = random_block(config.utd_ratio, config.batch_size, seed=1000 * seed + block)
        noise = in_float64(agent.draw_noise())
        ours = agent.update_block(batches, noise)
        assert len(noise.actions) == len(policy_updates)
        for i in range(config.utd_ratio):
            batch = Batch(*(each[0, i] for each in batches))
            now = noise.actions[policy_updates.index(i), 0] if i in policy_updates else None
            mixture = noise.mixture[i]
            theirs |= twin.update(
                batch,
                noise.next_actions[i, 0],
                now,
                noise.members[i],
                None if mixture is None else mixture[0],
            )
    return ours, theirs


def assert_same_networks(agent: REDQSACAgent, twin: Twin) -> None:
    """Weights, and the last gradients."""
    stacks: list[tuple[Any, nn.Module, tuple[int, ...]]] = [(agent.actor, twin.actor, (0,))]
    for i in range(agent.config.num_Q):
        stacks.append((agent.critics.mlp, twin.critics[i], (0, i)))
        stacks.append((agent.target_critics.mlp, twin.targets[i], (0, i)))
    for stacked, network, index in stacks:
        for ours, plain in zip(stacked.parameters(), network.parameters(), strict=True):
            for found, expected in ((ours.data, plain.data), (ours.grad, plain.grad)):
                if found is not None and expected is not None:
                    expected = expected.T if expected.ndim == 2 else expected[None]
                    torch.testing.assert_close(found[index], expected, **CLOSE)
    torch.testing.assert_close(agent.log_alpha.data[0], twin.log_alpha.data, **CLOSE)
    assert agent.alpha.item() == pytest.approx(twin.alpha, rel=1e-9)


@pytest.mark.parametrize(("keys", "policy_updates"), BLOCKS.values(), ids=BLOCKS)
def test_blocks_match_the_plain_twin(keys: dict[str, Any], policy_updates: list[int]) -> None:
    agent = stirred(make_agent(**keys).double())
    twin = Twin(agent)
    ours, theirs = follow(agent, twin, policy_updates, blocks=3)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name][0], expected, msg=name, **CLOSE)
        assert not ours[name].requires_grad
    assert_same_networks(agent, twin)


def test_two_critics_and_one_update_are_textbook_sac_step_by_step() -> None:
    agent = make_agent(num_Q=2, utd_ratio=1, batch_size=32, lr=3e-3).double()
    twin = Twin(agent)
    before = agent.actor.layers[0].weight.detach().clone()
    for step in range(25):
        follow(agent, twin, [0], blocks=1, seed=step)
        assert_same_networks(agent, twin)
    assert (agent.actor.layers[0].weight - before).abs().min() > 0


def test_the_target_by_hand() -> None:
    """``[S, B, 1]`` of known critics: y = r + gamma (1 - d) (min Q - alpha log pi)."""
    agent = make_agent(num_Q=3, gamma=0.5, alpha=0.2)
    with torch.no_grad():
        for network in (agent.target_critics.mlp, agent.actor):
            for parameter in network.parameters():
                parameter.zero_()
        agent.target_critics.mlp.layers[-1].bias[0, :, 0, 0] = torch.tensor([5.0, 3.0, 4.0])
    rewards, dones = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[0.0], [1.0]]])
    states, actions = torch.zeros(1, 2, DIMS.state), torch.zeros(1, 2, DIMS.action)
    batch = Batch(states, actions, rewards, states, dones)
    noise = torch.zeros(1, 2, DIMS.action)  # standard normal at its mode, where tanh has slope 1
    log_prob = -DIMS.action * 0.5 * np.log(2 * np.pi)
    for members, least in ((None, 3), (torch.tensor([0, 2]), 4), (torch.tensor([0]), 5)):
        target = agent.target(agent.target_inputs(batch, noise), members, None)
        expected = torch.tensor([[[1 + 0.5 * (least - 0.2 * log_prob)], [2.0]]])
        torch.testing.assert_close(target, expected.float())


def test_the_given_temperature_is_used_until_its_first_update() -> None:
    agent = make_agent(alpha=0.35, utd_ratio=4, policy_update_delay=2)
    assert agent.alpha.item() == pytest.approx(0.35)
    assert agent.log_alpha.item() == 0
    agent.replay.insert(torch.zeros(10, agent.replay.layout.row_dim))
    agent.train_block()
    # Two updates of log alpha from 0, by at most Adam's rate each: near 1, and no longer 0.35.
    assert 0.99 < agent.alpha.item() < 1.01
    assert agent.alpha.item() != 1
    torch.testing.assert_close(agent.alpha, agent.log_alpha.detach().exp())
    fixed = make_agent(alpha=0.35, auto_alpha=False)
    fixed.replay.insert(torch.zeros(10, agent.replay.layout.row_dim))
    assert "LossAlpha" not in fixed.train_block()
    assert fixed.alpha.item() == pytest.approx(0.35)


def test_initial_weights() -> None:
    agent = make_agent(hidden_sizes=(64, 64), num_Q=3)
    for network in (agent.actor, agent.critics.mlp):
        for layer in network.layers:
            bound = (6 / sum(layer.weight.shape[-2:])) ** 0.5
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert (layer.bias == 0).all()
    first, second = agent.critics.mlp.layers[0].weight[0, :2]
    assert (first != second).all()
    torch.testing.assert_close(agent.target_critics.state_dict(), agent.critics.state_dict())


def test_bf16_stays_near_fp32() -> None:
    batches = Batch(*(each.float() for each in random_block(20, 64)))
    agents = [
        make_agent(hidden_sizes=(64, 64), utd_ratio=20, batch_size=64, precision=each)
        for each in ("fp32", "bf16")
    ]
    noise = agents[0].draw_noise()
    plain, fast = (agent.update_block(batches, noise) for agent in agents)
    for name, expected in plain.items():
        torch.testing.assert_close(fast[name], expected, rtol=0.05, atol=0.02, msg=name)
    assert not fast["LossQ1"].equal(plain["LossQ1"])
    assert all(each.dtype == torch.float32 for each in agents[1].state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"num_Q": 4, "num_min": 1.5}, {"q_target_mode": "rem"}])
def test_the_compiled_agent_is_the_plain_one(keys: dict[str, Any]) -> None:
    agents = [make_agent(utd_ratio=4, compile=mode, **keys) for mode in ("off", "default")]
    for block in range(3):
        batches = Batch(*(each.float() for each in random_block(4, 8, seed=block)))
        noise = agents[0].draw_noise()
        metrics = [agent.update_block(batches, noise) for agent in agents]
        torch.testing.assert_close(metrics[1], metrics[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(agents[1].state_dict(), agents[0].state_dict(), rtol=1e-3, atol=1e-4)

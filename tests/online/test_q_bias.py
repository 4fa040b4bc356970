"""The bias of Q against Monte-Carlo returns, in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synther.learning.learner import Dims
from synther.online.q_bias import BiasEvaluation, discounted
from synther.online.redq_sac import AgentConfig, REDQSACAgent
from tests.online import helpers

pytestmark = pytest.mark.arithmetic

GAMMA, ALPHA = 0.5, 0.25


def test_discounted_returns_of_a_constant_reward() -> None:
    expected = [(1 - 0.9**n) / (1 - 0.9) for n in (6, 5, 4, 3, 2, 1)]
    np.testing.assert_allclose(discounted(np.ones(6), 0.9), expected, rtol=1e-14)
    np.testing.assert_array_equal(discounted(np.array([3.0, 1.0, 4.0]), 0.0), [3, 1, 4])
    np.testing.assert_array_equal(discounted(np.array([3.0, 1.0, 4.0]), 1.0), [8, 5, 4])
    assert discounted(np.array([]), 0.9).shape == (0,)


def agent_of_one_action_dimension() -> REDQSACAgent:
    keys = {**helpers.TINY_AGENT, "hidden_sizes": (4,), "alpha": ALPHA, "gamma": GAMMA, "num_Q": 2}
    return REDQSACAgent(AgentConfig(**keys), Dims(3, 1), seed=0)


def set_critics(agent: REDQSACAgent, episode: float, count: float, constant: float) -> None:
    """Q = episode * o[0] + count * o[1] + constant, for o >= 0."""
    first, last = agent.critics.mlp.layers
    with torch.no_grad():
        for each in agent.critics.parameters():
            each.zero_()
        first.weight[..., 0, 0] = first.weight[..., 1, 1] = 1
        last.weight[..., 0, 0], last.weight[..., 1, 0] = episode, count
        last.bias[...] = constant


def test_a_critic_that_is_right_has_no_bias() -> None:
    """Rewards 10 e + n + 1 at step n of episode e; without discount each Q is its reward."""
    agent = agent_of_one_action_dimension()
    agent.config = AgentConfig(**{**vars(agent.config), "gamma": 0.0})
    set_critics(agent, 10, 1, 1)
    bias = BiasEvaluation("Counter-v0", max_ep_len=5, states=13, cutoff=50)
    columns = bias(agent, seed=3)
    for name in ("QBias", "QBiasAbs", "NormQBias", "QBiasSqr", "NormQBiasSqr"):
        assert columns[f"Average{name}"] == pytest.approx(0, abs=1e-5)
    # Episodes of 5, 4 and 5 steps; 5 by max_ep_len, 4 by their end.
    rewards = np.array([1, 2, 3, 4, 5, 11, 12, 13, 14, 21, 22, 23, 24, 25])
    for name in ("MCDisRet", "MCDisRetEnt", "QPred"):
        assert columns[f"Average{name}"] == pytest.approx(rewards.mean(), rel=1e-5)
        assert columns[f"Std{name}"] == pytest.approx(rewards.std(), rel=1e-5)
        assert (columns[f"Min{name}"], columns[f"Max{name}"]) == pytest.approx((1, 25), rel=1e-5)


def test_the_soft_return_has_the_bonus_of_later_actions_only() -> None:
    agent = agent_of_one_action_dimension()
    with torch.no_grad():  # nearly deterministic: log pi = -log(std) - log(2 pi) / 2 - noise^2 / 2
        for each in agent.actor.parameters():
            each.zero_()
        agent.actor.layers[-1].bias[..., 1] = -6.0
    set_critics(agent, 0, 0, 7)
    bias = BiasEvaluation("Counter-v0", max_ep_len=3, states=2, cutoff=2)
    columns = bias(agent, seed=5)
    assert columns["AverageMCDisRet"] == pytest.approx((1 + 2 / 2 + 3 / 4 + 2 + 3 / 2) / 2)
    noise = torch.randn(3, generator=torch.Generator().manual_seed(5)).double().numpy()
    # tanh's slope is 1 to 1e-5, the actions being that small
    bonus = -ALPHA * (6 - 0.5 * np.log(2 * np.pi) - noise**2 / 2)
    soft = [1 + (2 + bonus[1]) / 2 + (3 + bonus[2]) / 4, 2 + (3 + bonus[2]) / 2]
    assert columns["MaxMCDisRetEnt"] == pytest.approx(max(soft), abs=1e-3)
    assert columns["MinMCDisRetEnt"] == pytest.approx(min(soft), abs=1e-3)
    gaps = 7 - np.array(soft)
    assert columns["AverageQBias"] == pytest.approx(gaps.mean(), abs=1e-3)
    assert columns["AverageQBiasSqr"] == pytest.approx((gaps**2).mean(), abs=1e-2)
    # returns below 10 are normalised by 10
    assert columns["AverageNormQBias"] == pytest.approx(gaps.mean() / 10, abs=1e-3)


def test_it_uses_no_stream_of_the_agent_and_follows_its_seed() -> None:
    agent = agent_of_one_action_dimension()
    states = {name: each.get_state() for name, each in agent.generators.items()}
    found = [BiasEvaluation("Counter-v0", 6, 10, 6)(agent, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert all(each.get_state().equal(states[name]) for name, each in agent.generators.items())

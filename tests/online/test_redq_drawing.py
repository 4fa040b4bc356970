"""What the agent draws: critics of the minimum, exploration, batches; when it updates at all."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from tests.online.helpers import DIMS, make_agent

pytestmark = pytest.mark.arithmetic


def drawn_members(draws: int, **keys: float) -> list[tuple[int, ...]]:
    """Which critics each of ``draws`` updates takes the minimum over, in rising order."""
    agent = make_agent(utd_ratio=draws, batch_size=1, **keys)
    members = agent.draw_noise().members
    return [tuple(sorted(each.tolist())) for each in members if each is not None]


def test_every_pair_of_ten_critics_is_as_likely() -> None:
    pairs = Counter(drawn_members(9000, num_Q=10, num_min=2))
    assert set(pairs) == set(itertools.combinations(range(10), 2))
    assert stats.chisquare(list(pairs.values())).pvalue > 1e-3


def test_blocks_draw_pairs_anew() -> None:
    agent = make_agent(num_Q=10, utd_ratio=20)
    first, second = (agent.draw_noise().members for _ in range(2))
    assert [each.tolist() for each in first] != [each.tolist() for each in second]


def test_a_fractional_count_is_met_on_average() -> None:
    chosen = drawn_members(4000, num_Q=4, num_min=1.3)
    assert {len(each) for each in chosen} == {1, 2}
    for size in (1, 2):
        subsets = Counter(each for each in chosen if len(each) == size)
        assert len(subsets) == math.comb(4, size)
        assert stats.chisquare(list(subsets.values())).pvalue > 1e-3
    two = sum(len(each) == 2 for each in chosen)
    assert abs(two - 1200) < 5 * math.sqrt(4000 * 0.3 * 0.7)


@pytest.mark.parametrize("keys", [{"num_Q": 2}, {"num_Q": 5, "num_min": 5}, {"num_min": 2.0}])
def test_as_many_as_there_are_takes_all(keys: dict[str, float]) -> None:
    assert drawn_members(20, **keys) == []


def test_rem_weights_sum_to_one_over_the_critics() -> None:
    mixture = make_agent(num_Q=4, q_target_mode="rem", utd_ratio=3).draw_noise().mixture
    for weights in mixture:
        assert weights is not None
        assert weights.shape == (1, 4, 8, 1)
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 8, 1))
    assert not mixture[0].equal(mixture[1])


def test_noise_is_standard_normal_and_new_each_time() -> None:
    agent = make_agent(utd_ratio=50, batch_size=50)
    first, second = agent.draw_noise(), agent.draw_noise()
    assert first.next_actions.shape == (50, 1, 50, DIMS.action)
    assert first.actions.shape == (3, 1, 50, DIMS.action)  # after 20, 40 and 50 updates
    numbers = torch.cat([first.next_actions.flatten(), first.actions.flatten()]).numpy()
    assert stats.kstest(numbers, "norm").pvalue > 1e-3
    assert len(np.unique(numbers)) > 0.99 * len(numbers)
    assert not first.next_actions.equal(second.next_actions)


def fill(agent, rows: int) -> None:
    agent.replay.insert(torch.randn(rows, agent.replay.layout.row_dim))


def test_exploration_is_uniform_until_start_steps_and_the_policy_s_after() -> None:
    agent = make_agent(start_steps=20)
    states = torch.randn(1, 5000, DIMS.state)
    fill(agent, 20)
    actions = agent.explore(states).numpy()
    assert actions.shape == (1, 5000, DIMS.action)
    for column in range(DIMS.action):
        assert stats.kstest(actions[0, :, column], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(actions[0].T)[0, 1]) < 5 / math.sqrt(5000)

    fill(agent, 1)
    state = agent.generators["explore"].get_state()
    found = agent.explore(states)
    noise = torch.randn((*states.shape[:2], 2), generator=torch.Generator().set_state(state))
    with torch.no_grad():
        mean, log_std = agent.actor(states).chunk(2, dim=-1)
    torch.testing.assert_close(found, torch.tanh(mean + log_std.exp() * noise))


def test_evaluated_actions_are_the_mode_and_draw_nothing() -> None:
    agent = make_agent()
    states = torch.randn(1, 6, DIMS.state)
    before = {name: each.get_state() for name, each in agent.generators.items()}
    with torch.no_grad():
        mean = agent.actor(states)[..., : DIMS.action]
    torch.testing.assert_close(agent.act(states), mean.tanh())
    torch.testing.assert_close(agent.act(states), agent.act(states), rtol=0, atol=0)
    assert all(each.get_state().equal(before[name]) for name, each in agent.generators.items())


def test_nothing_is_updated_before_its_time() -> None:
    agent = make_agent(delay_update_steps=15)
    before = {name: each.clone() for name, each in agent.state_dict().items()}
    generators = {name: each.get_state() for name, each in agent.generators.items()}
    fill(agent, 15)
    assert agent.train_block() == {}
    torch.testing.assert_close(agent.state_dict(), before, rtol=0, atol=0)
    assert all(agent.generators[name].get_state().equal(each) for name, each in generators.items())
    fill(agent, 1)
    assert {"LossQ1", "LossPi", "LossAlpha", "Alpha"} <= set(agent.train_block())
    assert any(not each.equal(before[name]) for name, each in agent.state_dict().items())


def test_batches_are_of_stored_rows_past_the_wrap_around() -> None:
    agent = make_agent(replay_size=30, utd_ratio=40, batch_size=16)
    rows = torch.arange(75.0)[:, None].expand(-1, agent.replay.layout.row_dim)
    for block in rows.split(7):
        agent.replay.insert(block)
    batch = agent.draw()
    assert batch.states.shape == (1, 40, 16, DIMS.state)
    assert batch.rewards.shape == batch.dones.shape == (1, 40, 16, 1)
    assert torch.equal(batch.rewards, batch.dones)
    assert torch.equal(batch.rewards.expand_as(batch.states), batch.states)
    counts = torch.bincount(batch.rewards.flatten().long(), minlength=75)
    assert (counts[:45] == 0).all()
    assert stats.chisquare(counts[45:].numpy()).pvalue > 1e-3


def test_seeds_and_reseeding() -> None:
    agent, other = make_agent(), make_agent()
    for each in (agent, other):
        fill(each, 50)
    assert torch.equal(agent.draw_noise().actions, other.draw_noise().actions)
    other.draw_noise()
    for each in (agent, other):
        each.reseed(12)
    noise = agent.draw_noise().actions
    assert torch.equal(noise, other.draw_noise().actions)
    agent.reseed(13)
    assert not torch.equal(noise, agent.draw_noise().actions)

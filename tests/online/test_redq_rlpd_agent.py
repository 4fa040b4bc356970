"""Batches of real and synthetic rows: the share is exact in every batch of a block."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from synther.online.redq_rlpd_agent import REDQRLPDAgent
from synther.online.redq_sac import AgentConfig, REDQSACAgent
from tests.online.helpers import DIMS, TINY_AGENT


def make_mixed(ratio: float, synthetic: int = 60, **keys: object) -> REDQRLPDAgent:
    """Real rows are tagged 0, 1, ..., synthetic ones -1, -2, ... in every column."""
    config = AgentConfig(**{**TINY_AGENT, "utd_ratio": 100, "batch_size": 10, **keys})
    agent = REDQRLPDAgent(
        config, DIMS, seed=0, diffusion_buffer_size=80, diffusion_sample_ratio=ratio
    )
    width = agent.replay.layout.row_dim
    agent.replay.insert(torch.arange(40.0)[:, None].expand(-1, width))
    agent.synthetic.insert(-torch.arange(1.0, synthetic + 1)[:, None].expand(-1, width))
    return agent


@pytest.mark.parametrize(
    ("ratio", "count"), [(0.0, 0), (0.5, 5), (0.3, 3), (0.24, 2), (0.96, 10), (1.0, 10)]
)
def test_every_batch_of_a_block_has_the_exact_share(ratio: float, count: int) -> None:
    batch = make_mixed(ratio).draw()
    tags = batch.rewards[0, ..., 0]
    assert tags.shape == (100, 10)
    assert ((tags < 0).sum(dim=1) == count).all()
    for column in (batch.states, batch.actions, batch.next_states, batch.dones):
        assert torch.equal(column[0], tags[..., None].expand_as(column[0]))


def test_rows_of_both_kinds_are_uniform() -> None:
    tags = make_mixed(0.5, utd_ratio=1000).draw().rewards.flatten().long()
    for rows, kind in ((40, tags[tags >= 0]), (60, -tags[tags < 0] - 1)):
        counts = torch.bincount(kind, minlength=rows)
        assert len(counts) == rows
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_before_the_first_refill_all_rows_are_real() -> None:
    agent = make_mixed(0.5, synthetic=0)
    assert (agent.draw().rewards >= 0).all()


def test_without_synthetic_rows_it_is_the_plain_agent() -> None:
    mixed = make_mixed(0.5, synthetic=0, utd_ratio=3)
    plain = REDQSACAgent(mixed.config, DIMS, seed=0)
    plain.replay.insert(mixed.replay.valid_rows())
    for agent in (mixed, plain):
        for _ in range(3):
            agent.train_block()
    torch.testing.assert_close(mixed.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_synthetic_rows_change_the_update() -> None:
    agents = [make_mixed(ratio, utd_ratio=3) for ratio in (0.0, 0.5)]
    for agent in agents:
        agent.train_block()
    assert not agents[0].critics.mlp.layers[0].weight.equal(agents[1].critics.mlp.layers[0].weight)

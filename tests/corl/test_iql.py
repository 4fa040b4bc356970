"""IQL against a plain float64 twin: one network at a time, one step after the other."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from synther.corl.algorithms.iql import IQL, IQLConfig
from synther.corl.shared.parsing import parse
from synther.learning.replay import Batch
from synther.runs.settings import ConfigError, as_dict
from tests.corl.helpers import DIMS, make_agent, random_batch
from tests.corl.test_runner import same
from tests.learning.test_nets import member

pytestmark = pytest.mark.arithmetic

TINY: dict[str, Any] = {"batch_size": 8, "network_width": 8}
SEEDS = [3, 5]


def iql(seeds: list[int] = SEEDS, **keys: Any) -> IQL:
    agent = make_agent(IQL, IQLConfig(**{**TINY, **keys}), seeds)
    assert isinstance(agent, IQL)
    return agent


def stirred(agent: IQL) -> IQL:
    """In float64; targets differ from critics, and some log-stds lie beyond their bounds."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in agent.target_critics.parameters():
            each.add_(0.1 * torch.randn(each.shape, generator=generator))
        if not agent.config.iql_deterministic:
            agent.log_std.copy_(torch.tensor([[[-6.0, 0.3]], [[-0.5, 2.5]]]))
    agent.optimizer.param_groups[-1]["lr"] = torch.zeros((), dtype=torch.float64)
    return agent.double()


# ---- The twin: one seed, separate networks ----
class Twin:
    """IQL of one seed as its paper and the 2023 release's order of steps have it."""

    def __init__(self, agent: IQL, seed: int) -> None:
        c = self.config = agent.config
        self.value, self.actor = member(agent.value, seed), member(agent.actor, seed)
        self.critics = nn.ModuleList(member(agent.critics.mlp, seed, i) for i in range(2))
        self.targets = nn.ModuleList(member(agent.target_critics.mlp, seed, i) for i in range(2))
        of_actor = list(self.actor.parameters())
        if not c.iql_deterministic:
            self.log_std = nn.Parameter(agent.log_std[seed, 0].detach().clone())
            of_actor.append(self.log_std)
        self.value_adam = Adam(self.value.parameters(), c.learning_rate)
        self.critic_adam = Adam(self.critics.parameters(), c.learning_rate)
        self.actor_adam = Adam(of_actor, c.learning_rate)
        self.schedule = CosineAnnealingLR(self.actor_adam, c.max_timesteps)

    def value_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the advantages ``[B]``."""
        inputs = torch.cat([batch.states, batch.actions], dim=1)
        q = torch.minimum(*(target(inputs)[:, 0] for target in self.targets)).detach()
        u = q - self.value(batch.states)[:, 0]
        losses = [each**2 * (1 - self.config.iql_tau if each < 0 else self.config.iql_tau)
                  for each in u]  # fmt: skip
        return torch.stack(losses).mean(), u.detach()

    def critic_loss(self, batch: Batch, next_values: Tensor) -> Tensor:
        c = self.config
        target = batch.rewards[:, 0] + c.discount * (1 - batch.dones[:, 0]) * next_values
        inputs = torch.cat([batch.states, batch.actions], dim=1)
        first, second = (F.mse_loss(critic(inputs)[:, 0], target) for critic in self.critics)
        return (first + second) / 2

    def actor_loss(self, batch: Batch, advantages: Tensor) -> Tensor:
        c = self.config
        actions, output = batch.actions / c.max_action, self.actor(batch.states)
        if c.iql_deterministic:
            costs = list(F.mse_loss(output.tanh(), actions, reduction="none").sum(dim=1))
        else:
            mean = output.tanh() if c.tanh_mean else output
            policy = Normal(mean, self.log_std.clamp(-5, 2).exp())
            costs = list(-policy.log_prob(actions).sum(dim=1))
        weights = [min(math.exp(c.beta * each), 100.0) for each in advantages.tolist()]
        return sum(w * cost for w, cost in zip(weights, costs, strict=True)) / len(weights)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        next_values = self.value(batch.next_states)[:, 0].detach()
        value_loss, advantages = self.value_loss(batch)
        losses = {"value_loss": step(self.value_adam, value_loss)}
        losses["critic_loss"] = step(self.critic_adam, self.critic_loss(batch, next_values))
        for old, new in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
            old.data = (1 - self.config.tau) * old.data + self.config.tau * new.data
        losses["actor_loss"] = step(self.actor_adam, self.actor_loss(batch, advantages))
        self.schedule.step()
        return losses


def step(optimizer: Adam, loss: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def parameter_pairs(agent: IQL, twin: Twin, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(ours, the twin's) of every parameter, and of its gradient."""
    stacks: list[tuple[Any, nn.Module, tuple[int, ...]]] = [
        (agent.value, twin.value, (seed,)),
        (agent.actor, twin.actor, (seed,)),
    ]
    for i in range(2):
        stacks.append((agent.critics.mlp, twin.critics[i], (seed, i)))
        stacks.append((agent.target_critics.mlp, twin.targets[i], (seed, i)))
    pairs = [
        (stacked, single, index)
        for stack, network, index in stacks
        for stacked, single in zip(stack.parameters(), network.parameters(), strict=True)
    ]
    if not agent.config.iql_deterministic:
        pairs.append((agent.log_std, twin.log_std, (seed,)))
    for stacked, single, index in pairs:
        for ours, plain in ((stacked, single), (stacked.grad, single.grad)):
            assert (ours is None) == (plain is None)
            if ours is not None and plain is not None:
                plain = plain.detach().T if plain.ndim == 2 else plain.detach()
                yield ours.detach()[index].reshape(plain.shape), plain


CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "mean without tanh": {"tanh_mean": False},
    "deterministic": {"iql_deterministic": True, "tanh_mean": False},
    "weights at their cap": {"beta": 30.0, "iql_tau": 0.9},
    "cloning": {"beta": 0.0, "iql_tau": 0.5},
    "others": {"max_action": 0.7, "discount": 0.9, "tau": 0.3, "learning_rate": 1e-2},
}


@pytest.mark.parametrize("keys", CASES.values(), ids=CASES)
def test_updates_match_the_plain_twin(keys: dict[str, Any]) -> None:
    """Losses, gradients, Adam's steps, targets, and the actor's rate down to 1/4 of the first."""
    agent = stirred(iql(max_timesteps=3, **keys))
    twins = [Twin(agent, seed) for seed in range(2)]
    for number in range(1, 4):
        batch = random_batch(2, 8, dtype=torch.float64, seed=number)
        agent.schedule(number)
        metrics = agent.update(batch, (), agent.variant(number))
        for seed, twin in enumerate(twins):
            expected = twin.update(Batch(*(each[seed] for each in batch)))
            for name, loss in expected.items():
                torch.testing.assert_close(metrics[name][seed], loss, rtol=1e-9, atol=1e-11)
            for ours, plain in parameter_pairs(agent, twin, seed):
                torch.testing.assert_close(ours, plain, rtol=1e-7, atol=1e-11)


def test_expectile_loss_of_known_advantages() -> None:
    advantages = torch.tensor([2.0, -1.0, 0.0, -3.0]).view(1, 4, 1).requires_grad_()
    loss = iql([0], iql_tau=0.9).value_loss(advantages)
    torch.testing.assert_close(loss, torch.tensor([(0.9 * 4 + 0.1 * 1 + 0.1 * 9) / 4]))
    (gradient,) = torch.autograd.grad(loss.sum(), advantages)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([0.9, -0.05, 0.0, -0.15]))


def test_weight_of_an_advantage_and_its_cap() -> None:
    """A policy that is 1 off in its one action: the loss is half the weight, plus constants."""
    agent = make_agent(IQL, IQLConfig(**TINY, beta=2.0, iql_deterministic=True), [0])
    assert isinstance(agent, IQL)
    with torch.no_grad():
        for each in agent.actor.parameters():
            each.zero_()
    batch = random_batch(1, 1)._replace(actions=torch.tensor([[[1.0, 0.0]]]))
    for advantage, weight in ((-1.0, math.exp(-2)), (2.0, math.exp(4)), (2.31, 100), (1e30, 100)):
        loss = agent.actor_loss(batch, torch.tensor([[[advantage]]]))
        assert loss.item() == pytest.approx(weight, rel=1e-5)


def test_the_actors_rate_is_a_cosine_of_the_step_also_after_a_restart() -> None:
    agent = iql(max_timesteps=1000, learning_rate=1e-3)
    for number in (1, 2, 251, 501, 1000):
        agent.schedule(number)
        expected = 1e-3 * (1 + math.cos(math.pi * (number - 1) / 1000)) / 2
        assert rates(agent) == pytest.approx([1e-3, expected], rel=1e-5)
    agent.schedule(501)
    agent.update(random_batch(2, 8), (), agent.variant(501))
    restarted = iql(max_timesteps=1000, learning_rate=1e-3)
    restarted.load_training_state(copy.deepcopy(agent.training_state()))
    assert rates(restarted) == rates(agent)
    for each in (agent, restarted):
        each.schedule(502)
        each.update(random_batch(2, 8, seed=1), (), each.variant(502))
    assert rates(restarted) == rates(agent) == pytest.approx([1e-3, 0.5e-3], rel=1e-2)
    assert same(restarted.training_state(), agent.training_state())


def rates(agent: IQL) -> list[float]:
    return [float(group["lr"]) for group in agent.optimizer.param_groups]


# ---- Networks ----
def test_actions_are_the_mean_within_the_bound() -> None:
    states = 100 * torch.randn(2, 50, DIMS.state, generator=torch.Generator().manual_seed(0))
    for keys in ({}, {"tanh_mean": False}, {"iql_deterministic": True}):
        agent = iql(max_action=0.7, **keys)
        actions, output = agent.act(states), agent.actor(states)
        assert output.abs().max() > 1
        mean = output if keys == {"tanh_mean": False} else output.tanh()
        torch.testing.assert_close(actions, (0.7 * mean).clamp(-0.7, 0.7))


def test_shapes_of_the_networks() -> None:
    agent = iql(network_width=24, network_depth=3)
    widths = [tuple(layer.weight.shape) for layer in agent.value.layers]
    assert widths == [(2, 3, 24), (2, 24, 24), (2, 24, 24), (2, 24, 1)]
    assert agent.critics.mlp.layers[-1].weight.shape == (2, 2, 24, 1)
    assert agent.actor.layers[-1].weight.shape == (2, 24, 2)
    assert torch.equal(agent.log_std, torch.zeros(2, 1, 2))
    assert "log_std" not in iql(iql_deterministic=True).state_dict()


# ---- Configuration ----
def test_the_defaults_are_the_papers() -> None:
    expected = {
        "max_timesteps": 1_000_000, "network_width": 256, "network_depth": 2, "batch_size": 256,
        "discount": 0.99, "tau": 0.005, "learning_rate": 3e-4, "beta": 3.0, "iql_tau": 0.7,
        "iql_deterministic": False, "tanh_mean": True, "normalize": True,
        "normalize_reward": False, "eval_freq": 5000, "n_episodes": 10,
    }  # fmt: skip
    assert {key: as_dict(IQLConfig())[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--iql_taw 0.9", "did you mean --iql_tau?"),
        ("--iql_tau 1", "iql_tau is 1.0, expected more than 0 and less than 1"),
        ("--network_depth 0", "network_depth is 0"),
        ("--tanh_mean 3e-5", "true or false"),
    ],
)
def test_what_cannot_be_is_refused(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(IQLConfig, words.split())

"""CQL against a plain float64 twin: one network at a time, one kind of action at a time."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

import synther
from synther.corl.algorithms.cql import CQL, CQLConfig
from synther.corl.shared.parsing import parse
from synther.learning.learner import Dims
from synther.learning.replay import Batch
from synther.learning.streams import BlockStream, generators_for
from synther.runs.settings import ConfigError

pytestmark = pytest.mark.arithmetic

DIMS = Dims(3, 2)
YAML = Path(synther.__file__).parent / "corl" / "yaml" / "cql"
TINY = {"batch_size": 8, "network_width": 8, "network_depth": 2, "cql_n_actions": 3}


def make_agent(dtype: torch.dtype = torch.float32, **keys: Any) -> CQL:
    config = CQLConfig(**{**TINY, **keys})
    return CQL(config, DIMS, generators_for(config.seeds, "init")).to(dtype)


def batch_of(seeds: int, size: int, seed: int = 0) -> Batch:
    """Random transitions, one of whose actions lies on the bounds."""
    generator = torch.Generator().manual_seed(seed)
    widths = (DIMS.state, DIMS.action, 1, DIMS.state, 1)
    parts = [
        torch.randn(seeds, size, width, generator=generator, dtype=torch.float64)
        for width in widths
    ]
    parts[1] = parts[1].tanh()
    parts[1][:, 0] = torch.tensor([1.0, -1.0])
    parts[4] = (parts[4] > 1).double()
    return Batch(*parts)


# ---- The twin: one seed, separate networks ----
class TwinActor(nn.Module):
    def __init__(self, agent: CQL, seed: int) -> None:
        super().__init__()
        self.network = plain_network(agent.actor.mlp.layers, (seed,))
        self.multiplier = nn.Parameter(agent.actor.log_std_multiplier[seed, 0].detach().clone())
        self.offset = nn.Parameter(agent.actor.log_std_offset[seed, 0].detach().clone())

    def forward(self, states: Tensor) -> TransformedDistribution:
        mean, raw = self.network(states).split(DIMS.action, dim=-1)
        log_std = (self.multiplier * raw + self.offset).clamp(-20, 2)
        normal = Normal(mean, log_std.exp(), validate_args=False)
        return TransformedDistribution(normal, TanhTransform(cache_size=1), validate_args=False)

    def sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, A]`` and ``[B]``."""
        distribution = self(states)
        raw = distribution.base_dist.mean + distribution.base_dist.stddev * noise
        actions = distribution.transforms[0](raw)
        return actions, distribution.log_prob(actions).sum(-1)


def plain_network(layers: Any, member: tuple[int, ...]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for layer in layers:
        weight, bias = layer.weight[member].detach(), layer.bias[member].detach()
        linear = nn.Linear(*weight.shape, dtype=weight.dtype)
        linear.weight.data.copy_(weight.T)
        linear.bias.data.copy_(bias[0])
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


class Twin:
    """CQL of one seed as its paper and SPEC state it, in float64."""

    def __init__(self, agent: CQL, seed: int) -> None:
        c = self.config = agent.config
        self.actor = TwinActor(agent, seed)
        self.critics = [plain_network(agent.critics.mlp.layers, (seed, i)) for i in range(2)]
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = torch.zeros((), dtype=torch.float64, requires_grad=True)
        self.log_alpha_prime = torch.ones((), dtype=torch.float64, requires_grad=True)
        critic_parameters = [p for each in self.critics for p in each.parameters()]
        self.optimizers = {
            "critics": torch.optim.Adam(critic_parameters, c.qf_lr),
            "actor": torch.optim.Adam(self.actor.parameters(), c.policy_lr),
            "alpha": torch.optim.Adam([self.log_alpha], c.policy_lr),
            "alpha_prime": torch.optim.Adam([self.log_alpha_prime], c.qf_lr),
        }
        self.steps = 0

    def temperature(self) -> Tensor:
        c = self.config
        tuned, one = c.use_automatic_entropy_tuning, torch.ones((), dtype=torch.float64)
        return c.alpha_multiplier * (self.log_alpha.exp().detach() if tuned else one)

    def q(self, critic: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
        """``[B]``, of actions in [-1, 1]."""
        return critic(torch.cat([states, self.config.max_action * actions], dim=-1))[:, 0]

    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        values, log_probs = [], []
        for each in noise:
            actions, log_prob = self.actor.sample(batch.next_states, each)
            values.append(
                torch.minimum(*(self.q(t, batch.next_states, actions) for t in self.targets))
            )
            log_probs.append(log_prob)
        value, index = torch.stack(values).max(dim=0)
        if self.config.backup_entropy:
            value = value - self.temperature() * torch.stack(log_probs)[index, range(len(index))]
        return batch.rewards[:, 0] + self.config.discount * (1 - batch.dones[:, 0]) * value

    def critic_losses(
        self, batch: Batch, random: Tensor, noise: Tensor, next_noise: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The sum of both losses, and both conservative terms."""
        c, loss, terms = self.config, torch.zeros((), dtype=torch.float64), []
        target = self.target(batch, next_noise[c.cql_n_actions :]).detach()
        samples = [(each, torch.full((c.batch_size,), 0.25).double().log()) for each in random]
        samples += [self.actor.sample(batch.states, each) for each in noise]
        samples += [
            self.actor.sample(batch.next_states, each) for each in next_noise[: c.cql_n_actions]
        ]
        for critic in self.critics:
            data = self.q(critic, batch.states, batch.actions / c.max_action)
            values = []
            for actions, log_density in samples:
                value = self.q(critic, batch.states, actions.detach())
                values.append(value - log_density.detach() if c.cql_importance_sample else value)
            if not c.cql_importance_sample:
                values.append(data)
            exponentials = sum((value / c.cql_temp).exp() for value in values)
            difference = c.cql_temp * exponentials.log() - data
            if c.cql_clip_diff_min is not None:
                difference = difference.clamp(min=c.cql_clip_diff_min)
            if c.cql_clip_diff_max is not None:
                difference = difference.clamp(max=c.cql_clip_diff_max)
            term = c.cql_min_q_weight * difference.mean()
            terms.append(term.detach())
            if c.cql_lagrange:
                weight = self.log_alpha_prime.exp().clamp(0, 1e6).detach()
                term = weight * (term - c.cql_target_action_gap)
            loss = loss + (data - target).square().mean() + term
        return loss, terms

    def descend(self, name: str, loss: Tensor) -> None:
        parameters = self.optimizers[name].param_groups[0]["params"]
        for each, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            each.grad = gradient
        self.optimizers[name].step()

    def update(self, batch: Batch, noise: list[Tensor]) -> dict[str, Tensor]:
        c, bound = self.config, self.config.max_action
        self.steps += 1
        critic_loss, terms = self.critic_losses(batch, *noise[:3])
        self.descend("critics", critic_loss)
        if c.cql_lagrange:
            gap = sum(term - c.cql_target_action_gap for term in terms) / 2
            self.descend("alpha_prime", -self.log_alpha_prime.exp().clamp(0, 1e6) * gap)
        actions, log_probs = self.actor.sample(batch.states, noise[3])
        value = torch.minimum(*(self.q(each, batch.states, actions) for each in self.critics))
        if self.steps <= c.bc_steps:
            value = self.actor(batch.states).log_prob(batch.actions / bound).sum(-1)
        actor_loss = (self.temperature() * log_probs - value).mean()
        self.descend("actor", actor_loss)
        if c.use_automatic_entropy_tuning:
            entropy_gap = (log_probs - DIMS.action).detach()
            self.descend("alpha", -(self.log_alpha * entropy_gap).mean())
        if self.steps % c.target_update_period == 0:
            for target, critic in zip(self.targets, self.critics, strict=True):
                for old, new in zip(target.parameters(), critic.parameters(), strict=True):
                    rate = c.soft_target_update_rate
                    old.data = (1 - rate) * old.data + rate * new.data
        return {"critic_loss": critic_loss.detach(), "actor_loss": actor_loss.detach()}


def assert_same(agent: CQL, twins: list[Twin]) -> None:
    """Gradients and values of every parameter, those of the targets too."""
    for seed, twin in enumerate(twins):
        pairs: list[tuple[Tensor, Tensor]] = [
            (agent.log_alpha, twin.log_alpha),
            (agent.log_alpha_prime, twin.log_alpha_prime),
            (agent.actor.log_std_multiplier, twin.actor.multiplier),
            (agent.actor.log_std_offset, twin.actor.offset),
        ]
        stacks = [(agent.actor.mlp, (seed,), twin.actor.network)]
        for i in range(2):
            stacks.append((agent.critics.mlp, (seed, i), twin.critics[i]))
            stacks.append((agent.target_critics.mlp, (seed, i), twin.targets[i]))
        for ours, plain in pairs:
            compare(ours, plain, (seed,), "a scalar")
        for stacked, member, network in stacks:
            for layer, linear in zip(stacked.layers, network[::2], strict=True):
                compare(layer.weight, linear.weight, member, "a weight")
                compare(layer.bias, linear.bias, member, "a bias")


def compare(ours: Tensor, plain: Tensor, member: tuple[int, ...], what: str) -> None:
    for stacked, single in ((ours, plain), (ours.grad, plain.grad)):
        assert (stacked is None) == (single is None), what
        if stacked is not None and single is not None:
            expected = single.detach().T if single.ndim == 2 else single.detach()
            found = stacked.detach()[member].reshape(expected.shape)
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-11, msg=what)


CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no importance weights": {"cql_importance_sample": False, "cql_temp": 0.5},
    "temperature of the logsumexp": {"cql_temp": 2.0, "cql_min_q_weight": 3.0},
    "lagrange": {"cql_lagrange": True, "cql_target_action_gap": 5.0},
    "lagrange, gap too wide": {"cql_lagrange": True, "cql_target_action_gap": 500.0},
    "clipped below": {"cql_clip_diff_min": 4.5},
    "clipped on both sides": {"cql_clip_diff_min": 4.0, "cql_clip_diff_max": 5.0},
    "maximum of next actions": {"cql_max_target_backup": True},
    "entropy in the backup": {"backup_entropy": True, "alpha_multiplier": 0.7},
    "maximum and entropy": {"cql_max_target_backup": True, "backup_entropy": True},
    "fixed temperature": {"use_automatic_entropy_tuning": False, "alpha_multiplier": 0.3},
    "cloning at first": {"bc_steps": 2, "max_action": 1.5},
    "slow targets": {"target_update_period": 3, "soft_target_update_rate": 0.2, "discount": 0.9},
    "other rates": {"policy_lr": 1e-2, "qf_lr": 3e-3, "orthogonal_init": False},
}


@pytest.mark.parametrize("keys", CASES.values(), ids=CASES)
def test_updates_match_the_plain_twin(keys: dict[str, Any]) -> None:
    agent = make_agent(torch.float64, num_seeds=2, **keys)
    twins = [Twin(agent, seed) for seed in range(2)]
    noise_source = BlockStream(agent.noise, generators_for(agent.config.seeds, "noise"))
    for step in range(1, 4):
        batch = batch_of(2, agent.config.batch_size, seed=step)
        noise = tuple(each.double() for each in noise_source.next())
        agent.schedule(step)
        metrics = agent.update(batch, noise, agent.variant(step))
        for seed, twin in enumerate(twins):
            of_seed = Batch(*(each[seed] for each in batch))
            expected = twin.update(of_seed, [each[seed] for each in noise])
            for name, value in expected.items():
                torch.testing.assert_close(metrics[name][seed], value, rtol=1e-8, atol=1e-10)
        assert_same(agent, twins)


def test_clipping_takes_effect_where_it_is_tested() -> None:
    agent = make_agent(num_seeds=2)
    plain, _ = conservative_terms(agent, {})
    for case in ("clipped below", "clipped on both sides"):
        clipped, _ = conservative_terms(agent, CASES[case])
        assert (plain != clipped).all()


def conservative_terms(agent: CQL, keys: dict[str, Any]) -> tuple[Tensor, Tensor]:
    agent = copy.deepcopy(agent)
    agent.config = dataclasses.replace(agent.config, **keys)
    noise = BlockStream(agent.noise, generators_for(agent.config.seeds, "noise")).next()
    batch = Batch(*(each.float() for each in batch_of(2, agent.config.batch_size)))
    loss, metrics = agent.critic_loss(batch, *noise[:3])
    return metrics["conservative_term"], loss


def test_initial_weights() -> None:
    square = make_agent().critics.mlp.layers[1]
    weight = square.weight[0, 0]
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(8), rtol=0, atol=1e-5)
    assert (square.bias == 0).all()
    last = make_agent(orthogonal_init=False).critics.mlp.layers[-1]
    assert 0 < last.weight.abs().max() < 0.02


def test_actions_are_bounded_and_deterministic() -> None:
    agent = make_agent(max_action=0.5)
    states = 100 * torch.randn(1, 20, DIMS.state, generator=torch.Generator().manual_seed(0))
    assert agent.act(states).abs().max() <= 0.5
    assert agent.act(states).equal(agent.act(states))


# ---- Configuration ----
@pytest.mark.parametrize("path", sorted(YAML.rglob("*.yaml")), ids=lambda path: path.stem)
def test_learning_rates_of_a_file_are_numbers(path: Path) -> None:
    """The 2023 release read a rate of 1.0 from every file (``bool("3e-5")``)."""
    config = parse(CQLConfig, ["--config", str(path)])
    assert (config.policy_lr, config.qf_lr) == (3e-5, 3e-4)
    assert type(config.policy_lr) is type(config.qf_lr) is float


def test_learning_rates_written_in_a_file_reach_the_optimisers(tmp_path: Path) -> None:
    file = tmp_path / "rates.yaml"
    file.write_text("policy_lr: 3e-6\nqf_lr: 1e-4\n")  # YAML reads the first as text
    config = parse(CQLConfig, ["--config", str(file)])
    agent = make_agent(policy_lr=config.policy_lr, qf_lr=config.qf_lr)
    rates = {key: each.param_groups[0]["lr"] for key, each in agent.optimizers().items()}
    assert rates == {
        "actor_optimizer": 3e-6,
        "alpha_optimizer": 3e-6,
        "critic_optimizer": 1e-4,
        "alpha_prime_optimizer": 1e-4,
    }


def test_keys_that_cannot_be_are_refused() -> None:
    for words in (["--cql_n_actions", "0"], ["--bc_steps", "-1"], ["--cql_lagrange", "3e-5"]):
        with pytest.raises(ConfigError, match=words[0][2:]):
            parse(CQLConfig, words)
    assert parse(CQLConfig, ["--cql_clip_diff_min", "-200"]).cql_clip_diff_min == -200.0

"""EDAC against a plain float64 twin: separate networks, action gradients by a second graph."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from synther.corl.algorithms.edac import EDAC, EDACConfig, similarity
from synther.corl.shared.parsing import parse
from synther.corl.shared.run_folder import NumberedFolder
from synther.learning.replay import Batch
from synther.learning.streams import BlockStream, generators_for
from synther.runs.settings import ConfigError
from tests.corl.helpers import DIMS, random_batch
from tests.learning.test_nets import member

pytestmark = pytest.mark.arithmetic

TINY: dict[str, Any] = {"batch_size": 8, "hidden_dim": 8, "num_critics": 3}


def make_agent(dtype: torch.dtype = torch.float32, **keys: Any) -> EDAC:
    config = EDACConfig(**{**TINY, **keys})
    return EDAC(config, DIMS, generators_for(config.seeds, "init")).to(dtype)


def stirred(agent: EDAC) -> EDAC:
    """Larger last layers, so that some log-stds lie beyond their bounds and targets differ."""
    with torch.no_grad():
        agent.actor.layers[-1].weight.mul_(4000)
        for each in (agent.critics, agent.target_critics):
            each.mlp.layers[-1].weight.mul_(100)
    return agent


def noise_stream(agent: EDAC, device: str = "cpu") -> BlockStream:
    return BlockStream(agent.noise, generators_for(agent.config.seeds, "noise", device))


# ---- The twin: one seed, separate networks ----
def plain_action_gradient(critic: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
    actions = actions.clone().requires_grad_()
    q = critic(torch.cat([states, actions], dim=-1)).sum()
    return torch.autograd.grad(q, actions, create_graph=True)[0]


def plain_similarity(gradients: list[Tensor]) -> Tensor:
    """Over all ordered pairs of critics, as the paper writes it."""
    pairs = itertools.permutations(gradients, 2)
    cosines = [F.cosine_similarity(first, second, dim=-1, eps=1e-12) for first, second in pairs]
    return sum(cosines, torch.zeros(())).mean() / (len(gradients) - 1)


class Twin:
    """EDAC of one seed as its paper and SPEC state it."""

    def __init__(self, agent: EDAC, seed: int) -> None:
        c = self.config = agent.config
        self.actor = member(agent.actor, seed)
        self.critics = nn.ModuleList(
            member(agent.critics.mlp, seed, i) for i in range(c.num_critics)
        )
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = torch.zeros((), dtype=torch.float64, requires_grad=True)
        self.optimizers = {
            "alpha": torch.optim.Adam([self.log_alpha], c.alpha_learning_rate),
            "actor": torch.optim.Adam(self.actor.parameters(), c.actor_learning_rate),
            "critic": torch.optim.Adam(self.critics.parameters(), c.critic_learning_rate),
        }

    def sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, A]`` and ``[B]``."""
        mean, log_std = self.actor(states).split(DIMS.action, dim=-1)
        normal = Normal(mean, log_std.clamp(-5, 2).exp())
        raw = normal.mean + normal.stddev * noise
        log_probs = normal.log_prob(raw) + 2 * raw.cosh().log()  # 1 - tanh^2 = 1 / cosh^2
        return self.config.max_action * raw.tanh(), log_probs.sum(-1)

    def smallest(self, critics: nn.ModuleList, states: Tensor, actions: Tensor) -> Tensor:
        inputs = torch.cat([states, actions], dim=-1)
        return torch.stack([critic(inputs)[:, 0] for critic in critics]).min(dim=0).values

    def descend(self, name: str, loss: Tensor) -> Tensor:
        parameters = self.optimizers[name].param_groups[0]["params"]
        for each, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            each.grad = gradient
        self.optimizers[name].step()
        return loss.detach()

    def update(self, batch: Batch, now: Tensor, later: Tensor) -> dict[str, Tensor]:
        c, metrics = self.config, {}
        log_probs = self.sample(batch.states, now)[1].detach()
        target_entropy = -float(DIMS.action)
        alpha_loss = -(self.log_alpha * (log_probs + target_entropy)).mean()
        metrics["alpha_loss"] = self.descend("alpha", alpha_loss)
        alpha = self.log_alpha.exp().detach()
        actions, log_probs = self.sample(batch.states, now)
        actor_loss = (alpha * log_probs - self.smallest(self.critics, batch.states, actions)).mean()
        metrics["actor_loss"] = self.descend("actor", actor_loss)
        actions, log_probs = self.sample(batch.next_states, later)
        value = self.smallest(self.targets, batch.next_states, actions) - alpha * log_probs
        target = batch.rewards[:, 0] + c.discount * (1 - batch.dones[:, 0]) * value
        inputs = torch.cat([batch.states, batch.actions], dim=-1)
        errors = [F.mse_loss(critic(inputs)[:, 0], target.detach()) for critic in self.critics]
        alike = plain_similarity(
            [plain_action_gradient(each, batch.states, batch.actions) for each in self.critics]
        )
        metrics["similarity"] = alike.detach()
        metrics["critic_loss"] = sum(errors).detach()
        self.descend("critic", sum(errors) + c.eta * alike)
        for old, new in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
            old.data = (1 - c.tau) * old.data + c.tau * new.data
        return metrics


def parameter_pairs(agent: EDAC, twin: Twin, seed: int) -> Iterator[tuple[Tensor, Tensor, Any]]:
    """(stacked, single, index in the stack) of every parameter."""
    yield agent.log_alpha, twin.log_alpha, (seed,)
    stacks: list[tuple[Any, nn.Module, tuple[int, ...]]] = [(agent.actor, twin.actor, (seed,))]
    for i in range(agent.config.num_critics):
        stacks.append((agent.critics.mlp, twin.critics[i], (seed, i)))
        stacks.append((agent.target_critics.mlp, twin.targets[i], (seed, i)))
    for stacked, network, index in stacks:
        for ours, plain in zip(stacked.parameters(), network.parameters(), strict=True):
            yield ours, plain, index


def assert_same(ours: Tensor, plain: Tensor, index: tuple[int, ...]) -> None:
    """Gradients and values."""
    for stacked, single in ((ours, plain), (ours.grad, plain.grad)):
        assert (stacked is None) == (single is None)
        if stacked is not None and single is not None:
            expected = single.detach().T if single.ndim == 2 else single.detach()
            found = stacked.detach()[index].reshape(expected.shape)
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-11)


CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "strong diversity": {"eta": 50.0, "num_critics": 5},
    "SAC-N": {"eta": 0.0, "num_critics": 4},
    "wider actions": {"max_action": 1.5, "discount": 0.9, "tau": 0.3},
    "other rates": {
        "actor_learning_rate": 1e-2, "critic_learning_rate": 3e-3, "alpha_learning_rate": 0.1
    },
}  # fmt: skip


@pytest.mark.parametrize("keys", CASES.values(), ids=CASES)
def test_updates_match_the_plain_twin(keys: dict[str, Any]) -> None:
    agent = stirred(make_agent(torch.float64, num_seeds=2, **keys))
    twins = [Twin(agent, seed) for seed in range(2)]
    stream = noise_stream(agent)
    for step in range(1, 4):
        batch, noise = (
            random_batch(2, 8, dtype=torch.float64, seed=step),
            [each.double() for each in stream.next()],
        )
        agent.schedule(step)
        metrics = agent.update(batch, tuple(noise), agent.variant(step))
        for seed, twin in enumerate(twins):
            of_seed = Batch(*(each[seed] for each in batch))
            for name, expected in twin.update(of_seed, *(each[seed] for each in noise)).items():
                torch.testing.assert_close(metrics[name][seed], expected, rtol=1e-8, atol=1e-10)
            for pair in parameter_pairs(agent, twin, seed):
                assert_same(*pair)


# ---- Networks ----
def test_closed_action_gradient_is_the_second_graph_s() -> None:
    critics = stirred(make_agent(torch.float64, num_critics=4, hidden_dim=16)).critics
    states, actions, *_ = random_batch(1, 8, dtype=torch.float64)
    networks = [member(critics.mlp, 0, i) for i in range(4)]
    plain = [plain_action_gradient(each, states[0], actions[0]) for each in networks]
    q, closed = critics.with_action_gradient(states, actions)
    torch.testing.assert_close(q, critics(states, actions), rtol=0, atol=1e-12)
    torch.testing.assert_close(closed[0], torch.stack(plain), rtol=1e-12, atol=1e-14)
    alike, expected = similarity(closed).sum(), plain_similarity(plain)
    torch.testing.assert_close(alike, expected, rtol=1e-12, atol=1e-14)
    found = torch.autograd.grad(alike, list(critics.parameters()), materialize_grads=True)
    for i, network in enumerate(networks):
        parameters = list(network.parameters())
        wanted = torch.autograd.grad(
            expected, parameters, retain_graph=True, materialize_grads=True
        )
        for ours, single in zip(found, wanted, strict=True):
            single = single.T if single.ndim == 2 else single[None]
            torch.testing.assert_close(ours[0, i], single, rtol=1e-9, atol=1e-13)


def test_similarity_of_known_gradients() -> None:
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])
    for gradients, expected in (
        ([east, 5 * east, 2 * east], 3.0),  # six ordered pairs of cosine 1, over N - 1
        ([east, north], 0.0),
        ([east, -2 * east], -2.0),
        ([0 * east, east], 0.0),  # a critic without any gradient is like none
        ([east], 0.0),
    ):
        stacked = torch.stack(gradients)[None, :, None].requires_grad_()
        value = similarity(stacked)
        torch.testing.assert_close(value, torch.tensor([expected]))
        assert torch.autograd.grad(value.sum(), stacked)[0].isfinite().all()


def test_initial_weights() -> None:
    agent = make_agent(hidden_dim=32)
    for network, bound in ((agent.actor, 1e-3), (agent.critics.mlp, 3e-3)):
        *hidden, last = network.layers
        assert len(hidden) == 3
        for layer in hidden:
            assert (layer.bias == 0.1).all()
            assert 0.9 < layer.weight.abs().max() * layer.weight.shape[-2] ** 0.5 <= 1
        for parameter in last.parameters():
            assert 0 < parameter.abs().max() <= bound
        assert last.weight.abs().max() > 0.9 * bound
    first, second = agent.critics.mlp.layers[1].weight[0, :2]
    assert (first != second).any()
    assert (agent.log_alpha == 0).all()
    assert agent.target_critics.state_dict().keys() == agent.critics.state_dict().keys()


def test_bf16_stays_near_float32() -> None:
    batch = random_batch(1, 8)
    plain, fast = (stirred(make_agent(hidden_dim=64, precision=each)) for each in ("fp32", "bf16"))
    results = [agent.critics.with_action_gradient(*batch[:2]) for agent in (plain, fast)]
    for expected, found in zip(*results, strict=True):
        assert found.dtype == torch.float32
        error = (found - expected).norm() / expected.norm()
        assert 1e-6 < error < 0.1  # a unit near its kink may be on in one and off in the other
    fast.update(batch, noise_stream(fast).next(), None)
    assert all(each.dtype == torch.float32 for each in fast.state_dict().values())


def test_actions_are_bounded_and_deterministic() -> None:
    agent = stirred(make_agent(max_action=0.5))
    states = 100 * random_batch(1, 8).states
    assert agent.act(states).abs().max() <= 0.5
    assert agent.act(states).equal(agent.act(states))


# ---- Configuration ----
def test_own_key_names_through_file_and_command_line(tmp_path: Path) -> None:
    file = tmp_path / "edac.yaml"
    file.write_text("env_name: hopper-medium-v2\ngamma: 0.9\nnum_epochs: 7\neval_episodes: 3\n")
    config = parse(EDACConfig, ["--config", str(file)])
    assert (config.env, config.discount, config.n_episodes) == ("hopper-medium-v2", 0.9, 3)
    assert (config.max_timesteps, config.eval_freq) == (7000, 5000)
    words = "--gamma 0.5 --num_updates_on_epoch 10 --eval_every 2 --eval_seed 1 --num_seeds 2"
    config = parse(EDACConfig, ["--config", str(file), *words.split()])
    assert (config.env, config.discount, config.n_episodes) == ("hopper-medium-v2", 0.5, 3)
    assert (config.max_timesteps, config.eval_freq, config.eval_seeds) == (70, 20, [1, 1])


def test_common_key_names_work_as_well() -> None:
    words = "--env walker2d-medium-v2 --discount 0.8 --n_episodes 4 --max_timesteps 30"
    config = parse(EDACConfig, [*words.split(), "--eval_freq=10"])
    assert (config.env, config.discount, config.n_episodes) == ("walker2d-medium-v2", 0.8, 4)
    assert (config.max_timesteps, config.eval_freq) == (30, 10)


def test_defaults() -> None:
    config = EDACConfig()
    assert (config.max_timesteps, config.eval_freq) == (3_000_000, 5000)
    assert (config.eval_seeds, config.normalize, config.n_episodes) == ([42], False, 10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--num_critic 10", "did you mean --num_critics?"),
        ("--env_nam x", "did you mean --env_name?"),
        ("--num_update_on_epoch 3", "did you mean --num_updates_on_epoch?"),
        ("--max_timesteps 30 --num_epochs 2", "max_timesteps is 30, .* 2000: give one of them"),
        ("--eval_freq 30 --eval_every 2", "eval_freq is 30, .* 2000: give one of them"),
        ("--num_critics 0", "num_critics is 0"),
        ("--eval_seed -1", "eval_seed is -1"),
        ("--deterministic_torch 3e-5", "true or false"),
    ],
)
def test_what_cannot_be_is_refused(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(EDACConfig, words.split())


@pytest.mark.parametrize("keys", [{"num_epochs": 2, "eval_every": 1}, {"max_timesteps": 30}])
def test_a_stored_configuration_reads_back_the_same(tmp_path: Path, keys: dict[str, Any]) -> None:
    config = EDACConfig(checkpoints_path=str(tmp_path), **keys)
    file = NumberedFolder.create(config).path / "config.yaml"
    assert parse(EDACConfig, ["--config", str(file)]) == config


def test_deterministic_torch_is_another_name() -> None:
    assert parse(EDACConfig, ["--deterministic_torch", "true"]).deterministic
    assert not EDACConfig().deterministic

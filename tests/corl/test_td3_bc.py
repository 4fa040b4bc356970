"""TD3+BC against the same mathematics written out for one network at a time, in float64."""

import pytest
import torch
from torch import Tensor, nn

from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.learning.nets import StackedMLP
from synther.learning.replay import Batch
from tests.corl.helpers import DIMS, make_agent, member_of, random_batch
from tests.learning.test_nets import member

pytestmark = pytest.mark.arithmetic

CONFIG = TD3BCConfig(network_width=16, batch_size=8, max_action=0.7, noise_clip=0.3, discount=0.9)
SEEDS = [3, 5]


def agent_in_float64() -> TD3BC:
    agent = make_agent(TD3BC, CONFIG, SEEDS)
    assert isinstance(agent, TD3BC)
    with torch.no_grad():  # targets that differ from the networks, as in training
        for each in [*agent.target_actor.parameters(), *agent.target_critics.parameters()]:
            each.add_(0.05 * torch.randn_like(each))
    return agent.double()


class Plain:
    """One seed's networks out of torch.nn."""

    def __init__(self, agent: TD3BC, seed: int) -> None:
        self.actor = member(agent.actor, seed)
        self.target_actor = member(agent.target_actor, seed)
        self.critics = [member(agent.critics.mlp, seed, each) for each in range(2)]
        self.target_critics = [member(agent.target_critics.mlp, seed, each) for each in range(2)]


def expected_critic_loss(nets: Plain, batch: Batch, noise: Tensor) -> Tensor:
    losses = [torch.zeros((), dtype=torch.float64)] * 2
    rows = batch.states.shape[0]
    for row in range(rows):
        drawn = torch.clamp(0.2 * 0.7 * noise[row], -0.3 * 0.7, 0.3 * 0.7)
        with torch.no_grad():
            next_action = 0.7 * torch.tanh(nets.target_actor(batch.next_states[row])) + drawn
            next_action = torch.clamp(next_action, -0.7, 0.7)
            joined = torch.cat([batch.next_states[row], next_action])
            next_q = min(critic(joined).item() for critic in nets.target_critics)
        target = batch.rewards[row] + 0.9 * (1 - batch.dones[row]) * next_q
        for each in range(2):
            q = nets.critics[each](torch.cat([batch.states[row], batch.actions[row]]))
            losses[each] = losses[each] + ((q - target) ** 2)[0] / rows
    return losses[0] + losses[1]


def expected_actor_loss(nets: Plain, batch: Batch) -> tuple[Tensor, Tensor]:
    actions = 0.7 * torch.tanh(nets.actor(batch.states))
    q = nets.critics[0](torch.cat([batch.states, actions], dim=1))
    scale = (2.5 / q.abs().mean()).detach()
    return -scale * q.mean() + nn.functional.mse_loss(actions, batch.actions), scale


def gradients_agree(stacked: tuple[Tensor, ...], seed: int, *plain: nn.Sequential) -> None:
    """The stacked gradients, one a weight and bias, hold those of the plain networks."""
    for number in range(len(stacked) // 2):
        for each, network in enumerate(plain):
            linear = network[2 * number]
            index = (seed, each) if stacked[0].ndim == 4 else (seed,)
            torch.testing.assert_close(stacked[2 * number][index], linear.weight.grad.T)
            torch.testing.assert_close(stacked[2 * number + 1][index][0], linear.bias.grad)


def test_critic_loss_and_gradient() -> None:
    agent = agent_in_float64()
    batch = random_batch(2, 8, dtype=torch.float64)
    noise = 2 * torch.randn(2, 8, DIMS.action, dtype=torch.float64)  # wide enough to be clipped
    loss, metrics = agent.critic_loss(batch, noise)
    gradients = torch.autograd.grad(loss, list(agent.critics.parameters()))
    total = torch.zeros((), dtype=torch.float64)
    for seed in range(2):
        nets = Plain(agent, seed)
        one = Batch(*(each[seed] for each in batch))
        expected = expected_critic_loss(nets, one, noise[seed])
        torch.testing.assert_close(metrics["critic_loss"][seed], expected.detach())
        expected.backward()
        gradients_agree(gradients, seed, *nets.critics)
        total += expected.detach()
    torch.testing.assert_close(loss.detach(), total)


def test_actor_loss_lambda_and_gradient() -> None:
    agent = agent_in_float64()
    batch = random_batch(2, 8, dtype=torch.float64)
    loss, metrics = agent.actor_loss(batch)
    gradients = torch.autograd.grad(loss, list(agent.actor.parameters()))
    for seed in range(2):
        nets = Plain(agent, seed)
        expected, scale = expected_actor_loss(nets, Batch(*(each[seed] for each in batch)))
        torch.testing.assert_close(metrics["actor_loss"][seed], expected.detach())
        torch.testing.assert_close(metrics["lambda"][seed], scale)
        expected.backward()
        gradients_agree(gradients, seed, nets.actor)


def test_an_update_is_adams_step_and_the_delayed_part_comes_every_second_time() -> None:
    agent = make_agent(TD3BC, CONFIG, SEEDS)
    assert isinstance(agent, TD3BC)
    nets = Plain(agent, 1)
    parameters = [each for critic in nets.critics for each in critic.parameters()]
    critic_adam = torch.optim.Adam(parameters, lr=3e-4)
    actor_adam = torch.optim.Adam(nets.actor.parameters(), lr=3e-4)
    for step in range(1, 5):
        batch = random_batch(2, 8, seed=step)
        noise = torch.randn(2, 8, DIMS.action, generator=torch.Generator().manual_seed(step))
        agent.schedule(step)
        metrics = agent.update(batch, (noise,), agent.variant(step))
        one = Batch(*(each[1] for each in batch))
        critic_adam.zero_grad()
        expected_critic_loss(nets, one, noise[1]).backward()
        critic_adam.step()
        assert ("actor_loss" in metrics) == (step % 2 == 0)
        if step % 2 == 0:
            actor_adam.zero_grad()
            expected_actor_loss(nets, one)[0].backward()
            actor_adam.step()
            pairs = [(nets.actor, nets.target_actor)]
            pairs += zip(nets.critics, nets.target_critics, strict=True)
            with torch.no_grad():
                for source, target in pairs:
                    moved = zip(target.parameters(), source.parameters(), strict=True)
                    for old, new in moved:
                        old.copy_(0.995 * old + 0.005 * new)
        same_as(agent.actor, nets.actor, 1)
        same_as(agent.target_actor, nets.target_actor, 1)
        for each in range(2):
            same_as(agent.critics.mlp, nets.critics[each], 1, each)
            same_as(agent.target_critics.mlp, nets.target_critics[each], 1, each)


def same_as(stack: StackedMLP, plain: nn.Sequential, *index: int) -> None:
    for ours, theirs in zip(member(stack, *index).parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-6)


def test_rewards_without_their_last_axis_are_told_from_those_with_it() -> None:
    """Fault 1 of the 2023 release: rewards ``[B]`` broadcast to a ``[B, B]`` target in silence."""
    agent = make_agent(TD3BC, CONFIG, SEEDS[:1])
    assert isinstance(agent, TD3BC)
    batch, noise = random_batch(1, 8), torch.zeros(1, 8, DIMS.action)
    flat = batch._replace(rewards=batch.rewards[..., 0], dones=batch.dones[..., 0])
    right = agent.critic_loss(batch, noise)[0].item()
    wrong = agent.critic_loss(flat, noise)[0].item()
    expected = expected_critic_loss(Plain(agent, 0), Batch(*(each[0] for each in batch)), noise[0])
    assert right == pytest.approx(expected.item(), rel=1e-5)
    assert wrong != pytest.approx(expected.item(), rel=1e-2)


def test_actions_keep_to_their_bound_and_exploration_is_noise_around_them() -> None:
    agent = make_agent(TD3BC, CONFIG, SEEDS)
    assert isinstance(agent, TD3BC)
    states = 100 * torch.randn(2, 50, DIMS.state)
    actions = agent.act(states)
    assert actions.abs().max() <= 0.7
    assert torch.equal(agent.explore(states, torch.zeros_like(actions)), actions)
    small = torch.zeros(2, 2000, DIMS.state)
    noise = torch.randn(2, 2000, DIMS.action)
    spread = (agent.explore(small, noise) - agent.act(small)).std().item()
    assert spread == pytest.approx(0.1 * 0.7, rel=0.05)


def test_width_and_depth_are_those_asked_for() -> None:
    config = TD3BCConfig(network_width=24, network_depth=3)
    agent = make_agent(TD3BC, config, [0])
    assert isinstance(agent, TD3BC)
    widths = [tuple(layer.weight.shape[-2:]) for layer in agent.actor.layers]
    assert widths == [(3, 24), (24, 24), (24, 24), (24, 2)]
    assert len(agent.critics.mlp.layers) == 4


def test_a_stack_member_alone_gives_the_same_loss() -> None:
    agent = agent_in_float64()
    batch = random_batch(2, 8, dtype=torch.float64)
    noise = torch.randn(2, 8, DIMS.action, dtype=torch.float64)
    _, metrics = agent.critic_loss(batch, noise)
    second = make_agent(TD3BC, CONFIG, SEEDS[1:]).double()
    state = {key: value[1:] for key, value in agent.state_dict().items()}
    second.load_state_dict(state)
    assert isinstance(second, TD3BC)
    _, alone = second.critic_loss(member_of(batch, 1), noise[1:])
    torch.testing.assert_close(alone["critic_loss"][0], metrics["critic_loss"][1])

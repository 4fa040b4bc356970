"""The four offline algorithms in the straightforward way: one seed, one torch.nn network after the
other, one Adam each, targets in a Python loop. What ``offline_speed.py`` compares against.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from synther.learning.replay import Batch


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    widths = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def adam(parameters: Iterable[Tensor], learning_rate: float = 3e-4) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=learning_rate)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def follow(target: nn.Module, source: nn.Module, rate: float = 0.005) -> None:
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.data.copy_(rate * new.data + (1 - rate) * old.data)


class PlainTD3BC:
    def __init__(self, states: int, actions: int) -> None:
        self.actor = nn.Sequential(mlp(states, [256, 256], actions), nn.Tanh())
        self.critics = [mlp(states + actions, [256, 256], 1) for _ in range(2)]
        self.target_actor = copy.deepcopy(self.actor)
        self.target_critics = copy.deepcopy(self.critics)
        self.actor_adam = adam(self.actor.parameters())
        self.critic_adams = [adam(critic.parameters()) for critic in self.critics]
        self.step = 0

    def update(self, batch: Batch) -> None:
        states, actions, rewards, next_states, dones = batch
        self.step += 1
        with torch.no_grad():
            noise = (0.2 * torch.randn_like(actions)).clamp(-0.5, 0.5)
            next_actions = (self.target_actor(next_states) + noise).clamp(-1, 1)
            joined = torch.cat([next_states, next_actions], 1)
            next_q = torch.min(self.target_critics[0](joined), self.target_critics[1](joined))
            target = rewards + (1 - dones) * 0.99 * next_q
        joined = torch.cat([states, actions], 1)
        loss = sum(F.mse_loss(critic(joined), target) for critic in self.critics)
        for optimizer in self.critic_adams:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.critic_adams:
            optimizer.step()
        if self.step % 2 == 0:
            chosen = self.actor(states)
            q = self.critics[0](torch.cat([states, chosen], 1))
            scale = 2.5 / q.abs().mean().detach()
            descend(self.actor_adam, -scale * q.mean() + F.mse_loss(chosen, actions))
            follow(self.target_actor, self.actor)
            for target_critic, critic in zip(self.target_critics, self.critics, strict=True):
                follow(target_critic, critic)


class PlainIQL:
    def __init__(self, states: int, actions: int) -> None:
        self.value = mlp(states, [256, 256], 1)
        self.critics = nn.ModuleList(mlp(states + actions, [256, 256], 1) for _ in range(2))
        self.targets = copy.deepcopy(self.critics)
        self.actor = nn.Sequential(mlp(states, [256, 256], actions), nn.Tanh())
        self.log_std = nn.Parameter(torch.zeros(actions))
        self.value_adam = adam(self.value.parameters())
        self.critic_adam = adam(self.critics.parameters())
        self.actor_adam = adam([*self.actor.parameters(), self.log_std])
        self.cosine = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_adam, 1_000_000)

    def update(self, batch: Batch) -> None:
        states, actions, rewards, next_states, dones = batch
        joined = torch.cat([states, actions], 1)
        with torch.no_grad():
            next_value = self.value(next_states)
            target_q = torch.min(self.targets[0](joined), self.targets[1](joined))
        advantage = target_q - self.value(states)
        weight = torch.abs(0.7 - (advantage < 0).float())
        descend(self.value_adam, (weight * advantage**2).mean())
        target = rewards + (1 - dones) * 0.99 * next_value
        descend(self.critic_adam, sum(F.mse_loss(q(joined), target) for q in self.critics) / 2)
        follow(self.targets, self.critics)
        policy = Normal(self.actor(states), self.log_std.clamp(-5, 2).exp())
        exponential = (3.0 * advantage.detach()).exp().clamp(max=100)
        cloning = -policy.log_prob(actions).sum(-1, keepdim=True)
        descend(self.actor_adam, (exponential * cloning).mean())
        self.cosine.step()


class SquashedActor(nn.Module):
    """Tanh-Gaussian policy: actions and log-densities ``[..., 1]``."""

    def __init__(
        self,
        states: int,
        actions: int,
        hidden: Sequence[int] = (256, 256, 256),
        bounds: tuple[float, float] = (-5, 2),
    ) -> None:
        super().__init__()
        self.body = mlp(states, hidden, 2 * actions)
        self.bounds = bounds

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.body(states).chunk(2, -1)
        policy = Normal(mean, log_std.clamp(*self.bounds).exp())
        raw = policy.rsample()
        correction = 2 * (math.log(2) - raw - F.softplus(-2 * raw))
        return raw.tanh(), (policy.log_prob(raw) - correction).sum(-1, keepdim=True)


class PlainEDAC:
    def __init__(self, states: int, actions: int, critics: int = 10) -> None:
        self.actor = SquashedActor(states, actions)
        hidden = [256, 256, 256]
        self.critics = nn.ModuleList(mlp(states + actions, hidden, 1) for _ in range(critics))
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.actor_adam = adam(self.actor.parameters())
        self.critic_adam = adam(self.critics.parameters())
        self.alpha_adam = adam([self.log_alpha])

    def update(self, batch: Batch) -> None:
        states, actions, rewards, next_states, dones = batch
        with torch.no_grad():
            _, log_prob = self.actor(states)
        descend(self.alpha_adam, (-self.log_alpha * (log_prob - actions.shape[1])).mean())
        alpha = self.log_alpha.exp().detach()
        chosen, log_prob = self.actor(states)
        joined = torch.cat([states, chosen], 1)
        q = torch.stack([critic(joined) for critic in self.critics]).min(0).values
        descend(self.actor_adam, (alpha * log_prob - q).mean())
        with torch.no_grad():
            next_actions, log_prob = self.actor(next_states)
            joined = torch.cat([next_states, next_actions], 1)
            next_q = torch.stack([each(joined) for each in self.targets]).min(0).values
            target = rewards + 0.99 * (1 - dones) * (next_q - alpha * log_prob)
        joined = torch.cat([states, actions], 1)
        loss = sum(F.mse_loss(critic(joined), target) for critic in self.critics)
        descend(self.critic_adam, loss + self.similarity(states, actions))
        follow(self.targets, self.critics)

    def similarity(self, states: Tensor, actions: Tensor) -> Tensor:
        actions = actions.clone().requires_grad_()
        gradients = []
        for critic in self.critics:
            q = critic(torch.cat([states, actions], 1)).sum()
            (gradient,) = torch.autograd.grad(q, actions, create_graph=True)
            gradients.append(F.normalize(gradient, dim=1))
        units = torch.stack(gradients, 1)  # [B, N, A]
        cosines = units @ units.mT
        off_diagonal = cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)
        return (off_diagonal / (len(self.critics) - 1)).mean()


class PlainCQL:
    def __init__(self, states: int, actions: int) -> None:
        self.actor = SquashedActor(states, actions)
        hidden = [256, 256, 256]
        self.critics = nn.ModuleList(mlp(states + actions, hidden, 1) for _ in range(2))
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.actor_adam = adam(self.actor.parameters(), 3e-5)
        self.critic_adam = adam(self.critics.parameters())
        self.alpha_adam = adam([self.log_alpha], 3e-5)

    def update(self, batch: Batch) -> None:
        states, actions, rewards, next_states, dones = batch
        chosen, log_prob = self.actor(states)
        target_entropy = actions.shape[1]
        descend(self.alpha_adam, -(self.log_alpha * (log_prob.detach() - target_entropy)).mean())
        joined = torch.cat([states, chosen], 1)
        q = torch.min(self.critics[0](joined), self.critics[1](joined))
        descend(self.actor_adam, (self.log_alpha.exp().detach() * log_prob - q).mean())
        with torch.no_grad():
            next_actions, _ = self.actor(next_states)
            joined = torch.cat([next_states, next_actions], 1)
            next_q = torch.min(self.targets[0](joined), self.targets[1](joined))
            target = rewards + (1 - dones) * 0.99 * next_q
        descend(self.critic_adam, self.critic_loss(states, actions, next_states, target))
        follow(self.targets, self.critics)

    def critic_loss(
        self, states: Tensor, actions: Tensor, next_states: Tensor, target: Tensor
    ) -> Tensor:
        size, width = len(states), actions.shape[1]

        def ten(rows: Tensor) -> Tensor:
            return rows[:, None].expand(-1, 10, -1)

        with torch.no_grad():
            random = torch.rand(size, 10, width) * 2 - 1
            current, current_log_prob = self.actor(ten(states))
            following, following_log_prob = self.actor(ten(next_states))
        loss = torch.zeros(())
        for critic in self.critics:
            data_q = critic(torch.cat([states, actions], 1))
            values = [
                critic(torch.cat([ten(states), random], 2)) - math.log(0.5**width),
                critic(torch.cat([ten(states), current], 2)) - current_log_prob,
                critic(torch.cat([ten(states), following], 2)) - following_log_prob,
            ]
            gap = torch.logsumexp(torch.cat(values, 1), 1) - data_q
            loss = loss + F.mse_loss(data_q, target) + 10 * gap.mean()
        return loss

"""The ensemble SAC of SPEC section 8 once more: separate float64 networks, nothing stacked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from synther.learning.replay import Batch
from synther.online.redq_sac import REDQSACAgent
from tests.learning.test_nets import member
from tests.online.helpers import DIMS


class Twin:
    """Begins with the weights of ``agent``, a float64 one."""

    def __init__(self, agent: REDQSACAgent) -> None:
        c = self.config = agent.config
        self.actor = member(agent.actor, 0)
        self.critics = [member(agent.critics.mlp, 0, i) for i in range(c.num_Q)]
        self.targets = [member(agent.target_critics.mlp, 0, i) for i in range(c.num_Q)]
        self.log_alpha = torch.zeros((), dtype=torch.float64, requires_grad=True)
        self.alpha = float(agent.alpha)  # 0.2 as float32 has it
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), c.lr)
        self.critic_optimizers = [
            torch.optim.Adam(each.parameters(), c.lr) for each in self.critics
        ]
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], c.lr)

    def sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, A]`` and ``[B]``."""
        mean, log_std = self.actor(states).split(DIMS.action, dim=-1)
        normal = Normal(mean, log_std.clamp(-20, 2).exp())
        raw = normal.mean + normal.stddev * noise
        log_probs = normal.log_prob(raw) + 2 * raw.cosh().log()  # 1 - tanh^2 = 1 / cosh^2
        return raw.tanh(), log_probs.sum(-1)

    def target(
        self, batch: Batch, noise: Tensor, members: Tensor | None, mixture: Tensor | None
    ) -> Tensor:
        """``[B]``."""
        c = self.config
        with torch.no_grad():
            actions, log_probs = self.sample(batch.next_states, noise)
            values = [_q(each, batch.next_states, actions) for each in self.targets]
            if c.q_target_mode == "ave":
                value = sum(values, torch.zeros(())) / c.num_Q
            elif mixture is not None:
                value = sum(
                    (w[:, 0] * v for w, v in zip(mixture, values, strict=True)), torch.zeros(())
                )
            else:
                chosen = range(c.num_Q) if members is None else members.tolist()
                value = torch.stack([values[i] for i in chosen]).min(dim=0).values
            soft = value - self.alpha * log_probs
            return batch.rewards[:, 0] + c.gamma * (1 - batch.dones[:, 0]) * soft

    def update(
        self,
        batch: Batch,
        next_noise: Tensor,
        noise: Tensor | None,
        members: Tensor | None,
        mixture: Tensor | None,
    ) -> dict[str, Tensor]:
        """One update of the critics; with ``noise`` also of policy and temperature."""
        c = self.config
        target = self.target(batch, next_noise, members, mixture)
        metrics = {}
        for i, (critic, optimizer) in enumerate(
            zip(self.critics, self.critic_optimizers, strict=True)
        ):
            q = _q(critic, batch.states, batch.actions)
            loss = F.mse_loss(q, target)
            _descend(optimizer, loss)
            if i == 0:
                metrics |= {"LossQ1": loss.detach(), "Q1Vals": q.detach().mean()}
        if noise is not None:
            metrics |= self._update_policy(batch, noise)
        with torch.no_grad():
            for old, new in zip(self.targets, self.critics, strict=True):
                for kept, moved in zip(old.parameters(), new.parameters(), strict=True):
                    kept.copy_(c.polyak * kept + (1 - c.polyak) * moved)
        return metrics

    def _update_policy(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        actions, log_probs = self.sample(batch.states, noise)
        q = torch.stack([_q(each, batch.states, actions) for each in self.critics]).mean(dim=0)
        loss = (self.alpha * log_probs - q).mean()
        _descend(self.actor_optimizer, loss)
        metrics = {"LossPi": loss.detach(), "LogPi": log_probs.detach().mean()}
        if self.config.auto_alpha:
            gap = log_probs.detach() + self.config.target_entropy
            alpha_loss = -(self.log_alpha * gap).mean()
            _descend(self.alpha_optimizer, alpha_loss)
            self.alpha = float(self.log_alpha.detach().exp())
            metrics["LossAlpha"] = alpha_loss.detach()
        return metrics | {"Alpha": torch.tensor(self.alpha, dtype=torch.float64)}


def _q(critic: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
    return critic(torch.cat([states, actions], dim=-1))[:, 0]


def _descend(optimizer: torch.optim.Adam, loss: Tensor) -> None:
    """A step that leaves no gradient with anything but the optimiser's own parameters."""
    parameters = optimizer.param_groups[0]["params"]
    for each, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        each.grad = gradient
    optimizer.step()

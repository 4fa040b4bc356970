"""IQL (Kostrikov et al. 2021, arXiv 2110.06169) clones actions by their advantage over expectiles.

    python3 synther/corl/algorithms/iql.py \
        --config synther/corl/yaml/iql/halfcheetah/medium_replay_v2.yaml \
        --checkpoints_path corl_logs/ --name SynthER --diffusion.path samples.npz

``tanh_mean`` is the one switch against the 2023 release, which left the tanh out. As there, the
critics' targets and the advantages are taken of V as it is before its own step, in the order value,
critics, actor; the authors' code takes them of V after it.
"""

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
import copy
import math
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from synther.corl.shared.command import command
from synther.corl.shared.config import RunConfig
from synther.learning.learner import Agent, Dims, Metrics, adam
from synther.learning.nets import StackedCritic, StackedMLP, move_targets
from synther.learning.replay import Batch
from synther.ranges import Depth, Fraction, NotNegative, Share, Width, plain_types

LOG_STD_BOUNDS = (-5.0, 2.0)
MAX_ADVANTAGE_WEIGHT = 100.0


# ---- Config ----
@plain_types
@dataclass
class IQLConfig(RunConfig):
    """Keys and defaults of IQL; the others are RunConfig's."""

    name: str = "IQL"
    tau: Share = 0.005  # target <- target + tau * (network - target)
    learning_rate: NotNegative = 3e-4  # the actor's falls to 0 along a cosine over max_timesteps
    beta: NotNegative = 3.0  # inverse temperature of the advantages; 0 clones the data
    iql_tau: Fraction = 0.7  # expectile that V is of Q; 0.5 is the mean
    iql_deterministic: bool = False  # clone by squared error, in place of a Gaussian's likelihood
    tanh_mean: bool = True  # the Gaussian's mean goes through tanh; the 2023 release: false
    network_width: Width = 256  # units of a hidden layer
    network_depth: Depth = 2  # hidden layers of each network


class IQL(Agent):
    acts_with = ("actor", "config")

    # ---- Networks ----
    def __init__(
        self,
        config: IQLConfig,
        dims: Dims,
        generators: list[torch.Generator],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config.compile)
        self.config, self.dims = config, dims
        seeds, hidden = len(generators), [config.network_width] * config.network_depth
        precision, widths = config.precision, [dims.state, *hidden]
        self.value = StackedMLP([seeds], [*widths, 1], generators, precision=precision).to(device)
        self.critics = StackedCritic(seeds, 2, *dims, hidden, generators, precision=precision).to(
            device
        )
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor = StackedMLP(
            [seeds], [*widths, dims.action], generators, precision=precision
        ).to(device)
        actor_parameters = list(self.actor.parameters())
        if not config.iql_deterministic:
            self.log_std = nn.Parameter(torch.zeros(seeds, 1, dims.action, device=device))
            actor_parameters.append(self.log_std)
        value_parameters = [*self.value.parameters(), *self.critics.parameters()]
        self.optimizer = adam(value_parameters, config.learning_rate)
        # A tensor: a CUDA graph would keep a number as it was at the capture.
        actor_rate = torch.tensor(config.learning_rate, device=device)
        self.optimizer.add_param_group({"params": actor_parameters, "lr": actor_rate})

    def act(self, states: Tensor) -> Tensor:
        bound = self.config.max_action
        return (bound * self._mean(states)).clamp(-bound, bound)

    def _mean(self, states: Tensor) -> Tensor:
        """The policy's mean, or its action, in units of max_action ``[S, B, A]``."""
        mean = self.actor(states)
        return mean.tanh() if self.config.tanh_mean or self.config.iql_deterministic else mean

    def policy(self, states: Tensor) -> Tensor | Distribution:
        if self.config.iql_deterministic:
            return self.act(states)
        bound, std = self.config.max_action, self.log_std.clamp(*LOG_STD_BOUNDS).exp()
        return Normal(bound * self._mean(states), bound * std, validate_args=False)

    # ---- Losses ----
    def value_loss(self, advantages: Tensor) -> Tensor:
        """Expectile regression of V on Q (eq. 5): ``|iql_tau - 1(u < 0)| * u^2``, where u is
        ``min Q(s, a) - V(s)`` ``[S, B, 1]``. Returns ``[S]``, as the two below."""
        above, below = advantages.relu().square(), (-advantages).relu().square()
        return torch.lerp(below, above, self.config.iql_tau).mean(dim=(1, 2))

    def critic_loss(self, q: Tensor, batch: Batch, next_values: Tensor) -> Tensor:
        """Mean of both critics' squared errors (eq. 6).

        Q is ``[S, 2, B, 1]``, the targets ``r + discount * (1 - d) * V(s')`` ``[S, B, 1]``.
        """
        targets = batch.rewards + self.config.discount * (1 - batch.dones) * next_values
        return (q - targets.unsqueeze(1)).square().mean(dim=(1, 2, 3))

    def actor_loss(self, batch: Batch, advantages: Tensor) -> Tensor:
        """``-exp(beta * advantage) * log pi(a|s)`` (eq. 7), the weight at most 100; a deterministic
        policy's squared error, summed over the action, in place of ``-log pi``."""
        weights = (self.config.beta * advantages).exp().clamp(max=MAX_ADVANTAGE_WEIGHT)
        errors = self._mean(batch.states) - batch.actions / self.config.max_action
        if self.config.iql_deterministic:
            cloning = errors.square()
        else:
            log_std = self.log_std.clamp(*LOG_STD_BOUNDS)
            gaussian = 0.5 * (errors * (-log_std).exp()).square()
            cloning = gaussian + log_std + 0.5 * math.log(2 * math.pi)
        return (weights * cloning.sum(dim=-1, keepdim=True)).mean(dim=(1, 2))

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """All three, summed: they share no parameter, and each takes the others' networks as
        constants, so that the sum's gradient holds theirs, at the price of fewer passes."""
        with torch.no_grad():
            target_q = self.target_critics(batch.states, batch.actions).amin(dim=1)  # [S, B, 1]
            next_values = self.value(batch.next_states)
        advantages = target_q - self.value(batch.states)
        q = self.critics(batch.states, batch.actions)  # [S, 2, B, 1]
        value_losses = self.value_loss(advantages)
        critic_losses = self.critic_loss(q, batch, next_values)
        actor_losses = self.actor_loss(batch, advantages.detach())
        metrics = {
            "value_loss": value_losses,
            "critic_loss": critic_losses,
            "actor_loss": actor_losses,
            "q": q.mean(dim=(1, 2, 3)),
            "advantage": advantages.mean(dim=(1, 2)),
        }
        total = (value_losses + critic_losses + actor_losses).sum()
        return total, {key: value.detach() for key, value in metrics.items()}

    # ---- Update ----
    def actor_rate(self, step: int | Tensor) -> float | Tensor:
        """The actor's learning rate at update ``step``, counted from 1: cosine annealing to 0."""
        angle = math.pi * ((step - 1) / self.config.max_timesteps)
        cosine = angle.cos() if isinstance(angle, Tensor) else math.cos(angle)
        return self.config.learning_rate * 0.5 * (1 + cosine)

    def schedule(self, step: int | Tensor) -> None:
        self.optimizer.param_groups[-1]["lr"].fill_(self.actor_rate(step))

    def update(self, batch: Batch, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        metrics = self.descend(self.optimizer, self.loss, batch)
        move_targets(self.target_critics, self.critics, self.config.tau)
        return metrics


# ---- main ----
def main() -> None:
    """Train by the command line's configuration."""
    command(IQLConfig, IQL)


if __name__ == "__main__":
    main()

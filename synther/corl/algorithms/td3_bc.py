"""TD3+BC (Fujimoto and Gu 2021, arXiv 2106.06860) is TD3 with a behaviour-cloning term.

    python3 synther/corl/algorithms/td3_bc.py \
        --config synther/corl/yaml/td3_bc/halfcheetah/medium_replay_v2.yaml \
        --checkpoints_path corl_logs/ --name SynthER --diffusion.path samples.npz
"""

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
import copy
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from synther.corl.shared.command import command
from synther.corl.shared.config import RunConfig
from synther.learning.learner import Agent, Dims, Metrics, adam
from synther.learning.nets import StackedCritic, StackedMLP, move_targets
from synther.learning.replay import Batch
from synther.ranges import Count, Depth, NotNegative, Share, Width, plain_types


# ---- Config ----
@plain_types
@dataclass
class TD3BCConfig(RunConfig):
    """Keys and defaults of TD3+BC; the others are RunConfig's."""

    name: str = "TD3_BC"
    algorithm: str = "TD3+BC"
    tau: Share = 0.005  # target <- target + tau * (network - target)
    learning_rate: NotNegative = 3e-4  # of Adam, for actor and critics
    policy_noise: NotNegative = 0.2  # std of the target policy's smoothing noise, times max_action
    noise_clip: NotNegative = 0.5  # its bound, times max_action
    policy_freq: Count = 2  # actor and targets move at every policy_freq-th update
    alpha: NotNegative = 2.5  # weight of Q against cloning in the actor's loss
    expl_noise: NotNegative = 0.1  # std of TD3BC.explore, times max_action; training never explores
    network_width: Width = 256  # units of a hidden layer
    network_depth: Depth = 2  # hidden layers of each network


class TD3BC(Agent):
    acts_with = ("actor", "config")

    # ---- Networks ----
    def __init__(
        self,
        config: TD3BCConfig,
        dims: Dims,
        generators: list[torch.Generator],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config.compile)
        self.config, self.dims = config, dims
        seeds, hidden = len(generators), [config.network_width] * config.network_depth
        precision, widths = config.precision, [dims.state, *hidden, dims.action]
        self.actor = StackedMLP([seeds], widths, generators, precision=precision).to(device)
        self.critics = StackedCritic(seeds, 2, *dims, hidden, generators, precision=precision).to(
            device
        )
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor_optimizer = adam(self.actor.parameters(), config.learning_rate)
        self.critic_optimizer = adam(self.critics.parameters(), config.learning_rate)

    def act(self, states: Tensor) -> Tensor:
        return self._policy(self.actor, states)

    def explore(self, states: Tensor, noise: Tensor) -> Tensor:
        """Actions to collect data with; ``noise`` is standard normal ``[S, N, A]``."""
        bound = self.config.max_action
        return (self.act(states) + self.config.expl_noise * bound * noise).clamp(-bound, bound)

    def _policy(self, actor: StackedMLP, states: Tensor) -> Tensor:
        return self.config.max_action * actor(states).tanh()

    # ---- Losses ----
    def critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Metrics]:
        """Sum of both critics' mean squared errors to the smoothed, clipped double-Q target."""
        config, bound = self.config, self.config.max_action
        with torch.no_grad():
            clip = config.noise_clip * bound
            smoothing = (config.policy_noise * bound * noise).clamp(-clip, clip)
            next_actions = self._policy(self.target_actor, batch.next_states) + smoothing
            next_q = self.target_critics(batch.next_states, next_actions.clamp(-bound, bound))
            target = batch.rewards + config.discount * (1 - batch.dones) * next_q.amin(dim=1)
        q = self.critics(batch.states, batch.actions)  # [S, 2, B, 1]
        losses = (q - target.unsqueeze(1)).square().mean(dim=(2, 3)).sum(dim=1)
        return losses.sum(), {"critic_loss": losses.detach(), "q": q.detach().mean(dim=(1, 2, 3))}

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """``-lambda * Q1(s, pi(s)) + (pi(s) - a)^2``, ``lambda = alpha / mean |Q1|`` (eq. 5)."""
        actions = self.act(batch.states)
        q = self.critics(batch.states, actions, frozen=True, first=True)  # [S, B, 1]
        scale = self.config.alpha / q.detach().abs().mean(dim=(1, 2))
        cloning = (actions - batch.actions).square().mean(dim=(1, 2))
        losses = cloning - scale * q.mean(dim=(1, 2))
        metrics = {"actor_loss": losses, "cloning_loss": cloning, "lambda": scale}
        return losses.sum(), {key: value.detach() for key, value in metrics.items()}

    # ---- Update ----
    def noise(self, generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
        shape = (updates, self.config.batch_size, self.dims.action)
        return (torch.randn(shape, generator=generator, device=generator.device),)

    def variant(self, step: int) -> bool:
        return step % self.config.policy_freq == 0

    def update(self, batch: Batch, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        metrics = self.descend(self.critic_optimizer, self.critic_loss, batch, *noise)
        if variant:  # the delayed step of the actor and all targets
            metrics |= self.descend(self.actor_optimizer, self.actor_loss, batch)
            move_targets(self.target_critics, self.critics, self.config.tau)
            move_targets(self.target_actor, self.actor, self.config.tau)
        return metrics


# ---- main ----
def main() -> None:
    """Train by the command line's configuration."""
    command(TD3BCConfig, TD3BC)


if __name__ == "__main__":
    main()

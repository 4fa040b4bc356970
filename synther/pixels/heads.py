"""Policy and Q heads read latents, which any encoder that fits a small protocol can make.

A *latent* of an observation is one vector. Which of its columns the policy sees, and which the
critics, the encoder says: DrQ+BC's are ``[h_actor | h_critic]``, 50 numbers each; an encoder with
one vector for both gives ``slice(0, L)`` twice.
"""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor, nn

from synther.learning.learner import Metrics
from synther.learning.nets import StackedCritic, StackedMLP
from synther.pixels.config import PixelConfig
from synther.pixels.networks import orthogonal_init, truncated_normal


class LatentEncoder(Protocol):
    """An encoder of pictures as latents: DrQ+BC's encoder and trunks, or one of your own.

    Attributes:
        latent_dim: L, columns of a latent.
        actor_columns, critic_columns: the policy's and the critics' part of it; they may overlap.
    """

    latent_dim: int
    actor_columns: slice
    critic_columns: slice

    def encode(self, images: Tensor) -> Tensor:
        """Stacks of pictures uint8 ``[N, C, H, W]`` -> latents ``[N, L]``; no gradient."""
        ...

    def encode_next(self, images: Tensor) -> Tensor:
        """The same for next observations, whose critics' part is that of the target critics; equal
        to ``encode`` for an encoder that has no target."""
        ...


class Heads(nn.Module):
    """The policy and twin critics on latents; S is 1 in the shapes below.

    Args:
        config: widths, noise and weights of the losses.
        encoder: whose latents they read.
        action_dim: A.
        generator: of the weights, orthogonal with biases 0.
    """

    def __init__(
        self,
        config: PixelConfig,
        encoder: LatentEncoder,
        action_dim: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config, self.action_dim = config, action_dim
        columns = range(encoder.latent_dim)
        actor_dim = len(columns[encoder.actor_columns])
        critic_dim = len(columns[encoder.critic_columns])
        hidden = [config.hidden_width] * 2
        self.policy = StackedMLP(
            [1], [actor_dim, *hidden, action_dim], [generator], init=orthogonal_init
        )
        self.critics = StackedCritic(
            1, 2, critic_dim, action_dim, hidden, [generator], init=orthogonal_init
        )
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)

    def act(self, latents: Tensor) -> Tensor:
        """Actions ``[S, N, A]`` without noise, for the policy's part ``[S, N, L_actor]``."""
        return self.policy(latents).tanh()

    def sample(self, latents: Tensor, noise: Tensor, std: Tensor) -> Tensor:
        """Actions with clipped noise, ``[S, N, A]``."""
        return truncated_normal(self.act(latents), std, noise, self.config.noise_clip)

    def target(
        self,
        rewards: Tensor,
        discounts: Tensor,
        next_actor: Tensor,
        next_target: Tensor,
        noise: Tensor,
        std: Tensor,
    ) -> Tensor:
        """``r + discount * min Q'(h_target(s'), a')`` ``[S, B, 1]``, a' of the policy, with noise.

        ``rewards`` are sums over n steps, and ``discounts`` those of the value after them.
        """
        next_actions = self.sample(next_actor, noise, std)
        return rewards + discounts * self.target_critics(next_target, next_actions).amin(dim=1)

    def critic_loss(
        self, critic: Tensor, actions: Tensor, target: Tensor
    ) -> tuple[Tensor, Metrics]:
        """Sum of both critics' mean squared errors, at latents ``critic [S, B, L_critic]``."""
        q = self.critics(critic, actions)  # [S, 2, B, 1]
        losses = (q - target.unsqueeze(1)).square().mean(dim=(2, 3)).sum(dim=1)
        return losses.sum(), {"critic_loss": losses.detach(), "q": q.detach().mean(dim=(1, 2, 3))}

    def actor_loss(
        self, actor: Tensor, critic: Tensor, data_actions: Tensor, noise: Tensor, std: Tensor
    ) -> tuple[Tensor, Metrics]:
        """``-lambda * min Q + MSE(a, data action)``, ``lambda = bc_weight / mean |Q|`` (V-D4RL,
        section 4; TD3+BC, arXiv 2106.06860, equation 5); the second term alone for BC."""
        actions = self.sample(actor, noise, std)
        cloning = (actions - data_actions).square().mean(dim=(1, 2))
        metrics = {"cloning_loss": cloning.detach()}
        if self.config.algo == "bc":
            return cloning.sum(), metrics
        q = self.critics(critic, actions, frozen=True).amin(dim=1)  # [S, B, 1]
        scale = self.config.bc_weight / q.detach().abs().mean(dim=(1, 2))
        losses = cloning - scale * q.mean(dim=(1, 2))
        return losses.sum(), metrics | {"actor_loss": losses.detach(), "lambda": scale}

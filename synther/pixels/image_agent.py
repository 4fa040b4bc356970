"""DrQ+BC (Lu et al. 2022, arXiv 2206.04779) is DrQ-v2 offline, with a behaviour-cloning term.

BC, the term alone, is the same agent without critics that count.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable

import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.learning.learner import Agent, Metrics, adam
from synther.learning.nets import move_targets
from synther.pixels.config import PixelConfig
from synther.pixels.frame_replay import PixelBatch
from synther.pixels.heads import Heads
from synther.pixels.networks import ConvEncoder, Trunk, random_shift
from synther.runs.runtime import autocast


class DrQBC(Agent):
    """The agent; a :class:`~synther.pixels.heads.LatentEncoder`, too.

    Args:
        config: see :class:`~synther.pixels.config.PixelConfig`.
        action_dim: A.
        generator: of the weights, on the CPU.
        device: of the networks.
    """

    # ---- Networks ----
    def __init__(
        self,
        config: PixelConfig,
        action_dim: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__("off")  # the encoder is compiled as a module, in encode_features
        self.config, width = config, config.latent_dim
        self.latent_dim = 2 * width
        self.actor_columns, self.critic_columns = slice(0, width), slice(width, 2 * width)
        self.encoder = ConvEncoder(
            3 * config.frame_stack, config.image_size, config.channels, generator
        )
        features = self.encoder.features
        self.actor_trunk = Trunk(features, width, generator)
        self.critic_trunk = Trunk(features, width, generator)
        self.target_trunk = copy.deepcopy(self.critic_trunk).requires_grad_(False)
        self.heads = Heads(config, self, action_dim, generator)
        self.to(device)
        self.action_std = torch.tensor(config.std(0), device=device)  # see schedule
        forward = self.encoder.forward
        self._features = torch.compile(forward) if config.compile == "default" else forward
        encoder, actor = list(self.encoder.parameters()), list(self.actor_trunk.parameters())
        critic = [*self.critic_trunk.parameters(), *self.heads.critics.parameters()]
        actor += list(self.heads.policy.parameters())
        cloning = config.algo == "bc"
        self.actor_optimizer = adam(encoder + actor if cloning else actor, config.learning_rate)
        self.critic_optimizer = adam(critic if cloning else encoder + critic, config.learning_rate)

    def features(self, images: Tensor) -> Tensor:
        """Pictures uint8 ``[N, C, H, W]`` -> features ``[N, F]`` in the type of the weights."""
        if self.config.precision == "bf16":
            # The pictures', not the weights': a gradient laid out otherwise than its weight would
            # mislead the fused Adam, and weights of 3 x 3 are turned round for nothing.
            images = images.contiguous(memory_format=torch.channels_last)
        with autocast(images.device, self.config.precision):
            return self._features(images).to(self.encoder.dtype)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """``[h_actor(s) | h_critic(s)]`` ``[N, L]``."""
        features = self.features(images)
        return torch.cat([self.actor_trunk(features), self.critic_trunk(features)], dim=-1)

    @torch.no_grad()
    def encode_next(self, images: Tensor) -> Tensor:
        """``[h_actor(s') | h_target(s')]`` ``[N, L]``."""
        features = self.features(images)
        return torch.cat([self.actor_trunk(features), self.target_trunk(features)], dim=-1)

    @torch.no_grad()
    def act(self, images: NDArray) -> NDArray:
        """Actions ``[N, A]`` without noise, for pictures ``[N, C, H, W]``."""
        device = next(self.encoder.parameters()).device
        features = self.features(torch.from_numpy(images).to(device))
        return self.heads.act(self.actor_trunk(features)[None])[0].cpu().numpy()

    # ---- Losses ----
    def critic_loss(
        self, features: Tensor, actions: Tensor, target: Tensor
    ) -> tuple[Tensor, Metrics]:
        """See :meth:`Heads.critic_loss`; its gradient reaches the encoder."""
        return self.heads.critic_loss(self.critic_trunk(features)[None], actions, target)

    def actor_loss(
        self, features: Tensor, actions: Tensor, noise: Tensor, std: Tensor
    ) -> tuple[Tensor, Metrics]:
        """See :meth:`Heads.actor_loss`."""
        with torch.no_grad():
            critic = self.critic_trunk(features)[None]
        return self.heads.actor_loss(self.actor_trunk(features)[None], critic, actions, noise, std)

    # ---- Update ----
    def noise(self, generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
        """Shifts of observations and next ones, normal noise of next actions and of actions."""
        batch, device = self.config.batch_size, generator.device
        pairs = (updates, 2, batch)
        last = 2 * self.config.pad + 1
        shifts = torch.randint(last, (*pairs, 2), generator=generator, device=device)
        shape = (*pairs, self.heads.action_dim)
        return shifts, torch.randn(shape, generator=generator, device=device)

    def schedule(self, step: int) -> None:
        """The standard deviation of the policy's noise, on the device: no update waits for it."""
        self.action_std.fill_(self.config.std(step))

    def update(self, batch: PixelBatch, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        """One step of critic (with the encoder) and actor (without), then of the targets.

        Both see the features from before the step, as in DrQ-v2.
        """
        config, heads = self.config, self.heads
        shifts, normal = noise[0][0], noise[1]  # [2, B, 2], [1, 2, B, A]
        std = self.action_std
        features = self.features(random_shift(batch.images, shifts[0], config.pad))
        if config.algo == "bc":
            return self.descend(
                self.actor_optimizer, self.actor_loss, features, batch.actions, normal[:, 1], std
            )
        with torch.no_grad():
            after = self.features(random_shift(batch.next_images, shifts[1], config.pad))
            target = heads.target(
                batch.rewards,
                batch.discounts,
                self.actor_trunk(after)[None],
                self.target_trunk(after)[None],
                normal[:, 0],
                std,
            )
        metrics = self.descend(
            self.critic_optimizer, self.critic_loss, features, batch.actions, target
        )
        seen = features.detach()  # the encoder learns from the critics alone
        metrics |= self.descend(
            self.actor_optimizer, self.actor_loss, seen, batch.actions, normal[:, 1], std
        )
        move_targets(self.target_trunk, self.critic_trunk, config.tau)
        move_targets(heads.target_critics, heads.critics, config.tau)
        return metrics

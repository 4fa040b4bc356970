"""The agent of the second stage trains policy and Q heads on latents of a frozen encoder."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synther.learning.learner import Agent, Metrics, adam
from synther.learning.nets import move_targets
from synther.learning.replay import Batch
from synther.pixels.config import PixelConfig
from synther.pixels.heads import Heads, LatentEncoder


class LatentAgent(Agent):
    """Heads that learn from batches of latent transitions, and act from pictures.

    Args:
        config: learning rate, noise, discount and weights of the losses.
        encoder: frozen here, if it is a module.
        heads: policy and critics on the encoder's latents; they are trained in place, with new
            optimisers.
        trained_steps: steps the heads have behind them, from which the noise's schedule goes on.
    """

    def __init__(
        self,
        config: PixelConfig,
        encoder: LatentEncoder,
        heads: Heads,
        trained_steps: int = 0,
    ) -> None:
        super().__init__(config.compile)
        self.config, self.heads, self.trained_steps = config, heads, trained_steps
        self.encoder = encoder  # a module among the attributes is saved with the rest
        if isinstance(encoder, nn.Module):
            encoder.requires_grad_(False)
        for network in (heads.policy, heads.critics):
            network.requires_grad_(True)  # an encoder that contains the heads froze them, too
        self.policy_optimizer = adam(heads.policy.parameters(), config.learning_rate)
        self.critic_optimizer = adam(heads.critics.parameters(), config.learning_rate)
        device = next(heads.parameters()).device
        self.action_std = torch.tensor(config.std(trained_steps), device=device)  # see schedule

    # ---- Acting ----
    @torch.no_grad()
    def act(self, images: NDArray) -> NDArray:
        """Actions ``[N, A]`` without noise, for pictures ``[N, C, H, W]``."""
        device = next(self.heads.parameters()).device
        latents = self.encoder.encode(torch.from_numpy(images).to(device))
        return self.heads.act(latents[None, :, self.encoder.actor_columns])[0].cpu().numpy()

    # ---- Update ----
    def noise(self, generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
        shape = (updates, 2, self.config.batch_size, self.heads.action_dim)
        return (torch.randn(shape, generator=generator, device=generator.device),)

    def schedule(self, step: int) -> None:
        """The standard deviation of the policy's noise, on the device: no update waits for it."""
        self.action_std.fill_(self.config.std(self.trained_steps + step))

    def update(self, batch: Batch, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        """One step of critics and policy on latents ``[1, B, L]``, then of the target critics."""
        config, heads = self.config, self.heads
        (normal,) = noise  # [1, 2, B, A]
        std = self.action_std
        actor, critic = self.encoder.actor_columns, self.encoder.critic_columns
        states, next_states = batch.states, batch.next_states
        metrics: Metrics = {}
        if config.algo == "drq_bc":
            with torch.no_grad():
                target = heads.target(
                    batch.rewards,
                    config.n_step_discount * (1 - batch.dones),
                    next_states[..., actor],
                    next_states[..., critic],
                    normal[:, 0],
                    std,
                )
            metrics = self.descend(
                self.critic_optimizer, heads.critic_loss, states[..., critic], batch.actions, target
            )
        metrics |= self.descend(
            self.policy_optimizer, heads.actor_loss,
            states[..., actor], states[..., critic], batch.actions, normal[:, 1], std,
        )  # fmt: skip
        if config.algo == "drq_bc":
            move_targets(heads.target_critics, heads.critics, config.tau)
        return metrics

"""CQL (Kumar et al. 2020, arXiv 2006.04779) is SAC whose critics value the data over other actions.

    python3 synther/corl/algorithms/cql.py \
        --config synther/corl/yaml/cql/halfcheetah/medium_replay_v2.yaml \
        --checkpoints_path corl_logs/ --name SynthER --diffusion.path samples.npz

CQL(H) with importance weights (equation 4 and appendix F), critics before actor (Algorithm 1).
Against the 2023 release: its actor stepped on the critics of one update before, and its Lagrange
form weighed ``term / w - gap`` by ``alpha' * w`` where the authors' has ``term - gap`` by alpha'.
"""

# ruff: noqa: UP045 - pyrallis 0.3 does not know X | None.

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
import copy
import functools
import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Optional, cast

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.distributions import Distribution

from synther.corl.shared.command import command
from synther.corl.shared.config import RunConfig
from synther.learning.learner import Agent, Dims, Metrics, adam
from synther.learning.nets import (
    Initializer,
    StackedCritic,
    StackedMLP,
    move_targets,
    squashed_gaussian,
    squashed_gaussian_log_prob,
    squashed_normal,
    torch_linear_init,
)
from synther.learning.replay import Batch
from synther.ranges import (
    Count,
    CountFrom0,
    Depth,
    Finite,
    NotNegative,
    Positive,
    Share,
    Width,
    plain_types,
)
from synther.runs.runtime import Precision

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
ALPHA_PRIME_MAX = 1e6


# ---- Config ----
@plain_types
@dataclass
class CQLConfig(RunConfig):
    """Keys and defaults of CQL; the others are RunConfig's."""

    name: str = "CQL"
    alpha_multiplier: NotNegative = 1.0  # factor of the temperature; itself if that is not tuned
    use_automatic_entropy_tuning: bool = True  # tune the temperature to an entropy of -|A|
    backup_entropy: bool = False  # entropy in the critics' target, as SAC has it
    policy_lr: NotNegative = 3e-5  # learning rate of actor and temperature
    qf_lr: NotNegative = 3e-4  # learning rate of critics and the Lagrange multiplier
    soft_target_update_rate: Share = 0.005  # target <- target + rate * (network - target)
    target_update_period: Count = 1  # targets move at every target_update_period-th update
    bc_steps: CountFrom0 = 0  # first updates, in which the actor fits the data by likelihood
    cql_n_actions: Count = 10  # actions of each kind: random, policy at s, policy at s'
    cql_importance_sample: bool = True  # weigh those actions by their densities
    cql_lagrange: bool = False  # tune the weight of the conservative term to the gap below
    cql_target_action_gap: Finite = -1.0  # value that the term may have, where cql_lagrange
    cql_temp: Positive = 1.0  # temperature of the logsumexp
    cql_min_q_weight: NotNegative = 10.0  # weight of the conservative term
    cql_max_target_backup: bool = False  # target of the best of cql_n_actions next actions
    cql_clip_diff_min: Optional[Finite] = None  # lower bound of logsumexp Q - Q(s, a) at each state
    cql_clip_diff_max: Optional[Finite] = None  # upper bound of the same
    orthogonal_init: bool = True  # else torch's own, with small last layers
    network_width: Width = 256  # units of a hidden layer
    network_depth: Depth = 3  # hidden layers of each network


# ---- Networks ----
def orthogonal_init(weight: Tensor, bias: Tensor, generator: torch.Generator) -> None:
    """Orthogonal weights times sqrt(2), biases 0."""
    nn.init.orthogonal_(weight, math.sqrt(2), generator=generator)
    bias.zero_()


def small_last_init(weight: Tensor, bias: Tensor, generator: torch.Generator) -> None:
    """Weights a hundredth of Xavier's."""
    torch_linear_init(weight, bias, generator)
    nn.init.xavier_uniform_(weight, 1e-2, generator=generator)


class TanhGaussianActor(nn.Module):
    """States ``[S, B, O]`` -> mean and log-std ``[S, B, A]`` of the Gaussian before the tanh.

    The log-std is the network's output times a learned multiplier plus a learned offset.
    """

    def __init__(
        self,
        dims: Dims,
        hidden: list[int],
        generators: list[torch.Generator],
        init: Initializer,
        last_init: Initializer,
        precision: Precision,
    ) -> None:
        super().__init__()
        seeds, widths = len(generators), [dims.state, *hidden, 2 * dims.action]
        self.mlp = StackedMLP(
            [seeds], widths, generators, init=init, last_init=last_init, precision=precision
        )
        self.log_std_multiplier = nn.Parameter(torch.ones(seeds, 1, 1))
        self.log_std_offset = nn.Parameter(-torch.ones(seeds, 1, 1))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.mlp(states).chunk(2, dim=-1)
        log_std = self.log_std_multiplier * raw + self.log_std_offset
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)


class CQL(Agent):
    acts_with = ("actor", "config")

    def __init__(
        self,
        config: CQLConfig,
        dims: Dims,
        generators: list[torch.Generator],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config.compile)
        self.config, self.dims = config, dims
        seeds, hidden = len(generators), [config.network_width] * config.network_depth
        orthogonal = config.orthogonal_init
        init = orthogonal_init if orthogonal else torch_linear_init
        last = orthogonal_init if orthogonal else small_last_init
        self.actor = TanhGaussianActor(dims, hidden, generators, init, last, config.precision).to(
            device
        )
        self.critics = StackedCritic(
            seeds, 2, *dims, hidden, generators,
            init=init, last_init=last, precision=config.precision,
        ).to(device)  # fmt: skip
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(seeds, device=device))
        self.log_alpha_prime = nn.Parameter(torch.ones(seeds, device=device))
        self.actor_optimizer = adam(self.actor.parameters(), config.policy_lr)
        self.alpha_optimizer = adam([self.log_alpha], config.policy_lr)
        self.critic_optimizer = adam(self.critics.parameters(), config.qf_lr)
        self.alpha_prime_optimizer = adam([self.log_alpha_prime], config.qf_lr)

    def act(self, states: Tensor) -> Tensor:
        return self.config.max_action * self.actor(states)[0].tanh()

    def policy(self, states: Tensor) -> Distribution:
        mean, log_std = self.actor(states)
        return squashed_normal(mean, log_std, self.config.max_action)

    @property
    def alpha(self) -> Tensor:
        """Temperature ``[S]``."""
        return self.config.alpha_multiplier * self.log_alpha.detach().exp()

    @property
    def alpha_prime(self) -> Tensor:
        """Lagrange multiplier of the conservative term ``[S]``."""
        return self.log_alpha_prime.exp().clamp(0, ALPHA_PRIME_MAX)

    def _q(self, critics: StackedCritic, states: Tensor, actions: Tensor) -> Tensor:
        """K actions ``[S, K, B, A]`` at each state ``[S, B, O]`` -> ``[S, 2, K, B, 1]``.

        Actions are in [-1, 1] here and below, densities too; only critics see ``max_action``.
        """
        k = actions.shape[1]
        repeated = repeat(states, "s b o -> s (k b) o", k=k)
        listed = rearrange(actions, "s k b a -> s (k b) a")
        q = critics(repeated, self.config.max_action * listed)
        return rearrange(q, "s critic (k b) one -> s critic k b one", k=k)

    # ---- Losses ----
    def critic_loss(
        self, batch: Batch, random: Tensor, noise: Tensor, next_noise: Tensor
    ) -> tuple[Tensor, Metrics]:
        """Both critics' mean squared errors plus the conservative term (equation 4).

        Args:
            batch: ``[S, B, ...]``.
            random: the uniform actions ``[S, n, B, A]`` in [-1, 1].
            noise: of the policy's actions at s ``[S, n, B, A]``.
            next_noise: of its actions at s', those of the target last ``[S, n + m, B, A]``.
        """
        config, n = self.config, self.config.cql_n_actions
        with torch.no_grad():
            actions, log_probs = self._sample(batch.states, noise)
            next_actions, next_log_probs = self._sample(batch.next_states, next_noise)
            target = self._target(batch, next_actions[:, n:], next_log_probs[:, n:])
            log_random = torch.full_like(log_probs, -self.dims.action * math.log(2))
            log_densities = torch.cat([log_random, log_probs, next_log_probs[:, :n]], dim=1)
            data = batch.actions.unsqueeze(1) / config.max_action
            every_action = torch.cat([random, actions, next_actions[:, :n], data], dim=1)
        q = self._q(self.critics, batch.states, every_action)
        data_q = q[:, :, -1]  # [S, 2, B, 1]
        td_losses = (data_q - target.unsqueeze(1)).square().mean(dim=(2, 3))
        terms = self.conservative_terms(q, log_densities)
        weighted = terms
        if config.cql_lagrange:
            excess = terms - config.cql_target_action_gap
            weighted = self.alpha_prime.detach().unsqueeze(1) * excess
        losses = (td_losses + weighted).sum(dim=1)
        metrics = {
            "critic_loss": losses,
            "td_loss": td_losses.sum(dim=1),
            "conservative_term": terms.mean(dim=1),
            "q": data_q.mean(dim=(1, 2, 3)),
        }
        return losses.sum(), {key: value.detach() for key, value in metrics.items()}

    def _sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions of noise ``[S, K, B, A]`` at states ``[S, B, O]``; log-densities ``[..., 1]``."""
        mean, log_std = self.actor(states)
        return squashed_gaussian(mean.unsqueeze(1), log_std.unsqueeze(1), noise)

    def _target(self, batch: Batch, actions: Tensor, log_probs: Tensor) -> Tensor:
        """``r + discount * (1 - d) * V(s')`` ``[S, B, 1]``, V of the best of m next actions."""
        config = self.config
        next_q = self._q(self.target_critics, batch.next_states, actions).amin(dim=1)
        best_q, best = next_q.max(dim=1)
        if config.backup_entropy:
            entropy_cost = log_probs.gather(1, best.unsqueeze(1)).squeeze(1)
            best_q = best_q - self.alpha.view(-1, 1, 1) * entropy_cost
        return batch.rewards + config.discount * (1 - batch.dones) * best_q

    def conservative_terms(self, q: Tensor, log_densities: Tensor) -> Tensor:
        """``w * mean clip(temp * logsumexp((Q - log density) / temp) - Q(s, a))`` ``[S, 2]``.

        Without importance weights the data's action takes part in the logsumexp, as in the authors'
        code.

        Args:
            q: of the sampled actions and, last, the data's ``[S, 2, 3 n + 1, B, 1]``.
            log_densities: of the sampled actions ``[S, 3 n, B, 1]``.
        """
        config = self.config
        low, high = config.cql_clip_diff_min, config.cql_clip_diff_max
        values = q[:, :, :-1] - log_densities.unsqueeze(1) if config.cql_importance_sample else q
        soft_maximum = config.cql_temp * torch.logsumexp(values / config.cql_temp, dim=2)
        difference = soft_maximum - q[:, :, -1]
        if low is not None or high is not None:
            difference = difference.clamp(low, high)
        return config.cql_min_q_weight * difference.mean(dim=(2, 3))

    def alpha_prime_loss(self, term: Tensor) -> tuple[Tensor, Metrics]:
        """``-alpha' * (term - gap)`` (appendix F), with the critics' mean term ``[S]``."""
        alpha_prime = self.alpha_prime
        losses = -alpha_prime * (term - self.config.cql_target_action_gap)
        return losses.sum(), {"alpha_prime": alpha_prime.detach()}

    def actor_loss(self, batch: Batch, noise: Tensor, cloning: bool) -> tuple[Tensor, Metrics]:
        """``alpha * log pi(a'|s) - min Q(s, a')``; while cloning, ``-log pi(a|s)`` of the data's a
        in place of Q."""
        bound = self.config.max_action
        mean, log_std = self.actor(batch.states)
        actions, log_probs = squashed_gaussian(mean, log_std, noise)
        if cloning:
            value = squashed_gaussian_log_prob(mean, log_std, batch.actions / bound)
        else:
            value = self.critics(batch.states, bound * actions, frozen=True).amin(dim=1)
        log_prob = log_probs.mean(dim=(1, 2))
        losses = self.alpha * log_prob - value.mean(dim=(1, 2))
        return losses.sum(), {"actor_loss": losses.detach(), "log_prob": log_prob.detach()}

    def alpha_loss(self, log_prob: Tensor) -> tuple[Tensor, Metrics]:
        """``-log alpha * (log pi + target entropy)``, with the batch's mean log pi ``[S]``."""
        losses = -self.log_alpha * (log_prob - self.dims.action)
        return losses.sum(), {"alpha": self.alpha}

    # ---- Update ----
    def noise(self, generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
        config, device = self.config, generator.device
        size, n = (config.batch_size, self.dims.action), config.cql_n_actions
        targets = n if config.cql_max_target_backup else 1
        draw = functools.partial(torch.randn, generator=generator, device=device)
        random = torch.rand(updates, n, *size, generator=generator, device=device) * 2 - 1
        policy, following = draw(updates, n, *size), draw(updates, n + targets, *size)
        return random, policy, following, draw(updates, *size)

    def variant(self, step: int) -> tuple[bool, bool]:
        return step <= self.config.bc_steps, step % self.config.target_update_period == 0

    def update(self, batch: Batch, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        config = self.config
        cloning, move = cast(tuple[bool, bool], variant)
        *critic_noise, actor_noise = noise
        metrics = self.descend(self.critic_optimizer, self.critic_loss, batch, *critic_noise)
        if config.cql_lagrange:
            term = metrics["conservative_term"]
            metrics |= self.descend(self.alpha_prime_optimizer, self.alpha_prime_loss, term)
        metrics |= self.descend(self.actor_optimizer, self.actor_loss, batch, actor_noise, cloning)
        if config.use_automatic_entropy_tuning:
            log_prob = metrics["log_prob"]
            metrics |= self.descend(self.alpha_optimizer, self.alpha_loss, log_prob)
        if move:
            move_targets(self.target_critics, self.critics, config.soft_target_update_rate)
        return metrics


# ---- main ----
def main() -> None:
    """Train by the command line's configuration."""
    command(CQLConfig, CQL)


if __name__ == "__main__":
    main()

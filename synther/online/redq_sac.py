"""This agent is SAC with an ensemble of critics: REDQ (Chen et al. 2021, arXiv 2101.05982) and kin.

====================  =====================================================================
SAC                   ``num_Q`` 2, ``num_min`` 2, ``utd_ratio`` 1
REDQ                  ``num_Q`` 10, ``num_min`` 2, ``utd_ratio`` 20
MaxMin                ``num_min`` as large as ``num_Q``
average               ``q_target_mode`` 'ave'
REM                   ``q_target_mode`` 'rem' (Agarwal et al. 2020, arXiv 1907.04543)
====================  =====================================================================
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from synther.learning.graphs import Replayed
from synther.learning.learner import Dims, Learner, Metrics, adam
from synther.learning.nets import StackedCritic, StackedMLP, move_targets, squashed_gaussian
from synther.learning.replay import Batch, RowBuffer
from synther.learning.streams import (
    Purpose,
    generators_for,
    random_members,
    restore_generators,
)
from synther.runs.runtime import CAPTURED, CompileMode, Precision
from synther.transitions import TransitionLayout

LOG_STD_BOUNDS = (-20.0, 2.0)
TargetMode = Literal["min", "ave", "rem"]
STREAMS: tuple[Purpose, ...] = ("explore", "data", "noise", "synthetic")


# ---- Config ----
@dataclass(frozen=True)
class AgentConfig:
    """The agent's settings, by their names in ``redq_sac`` of the gin files."""

    target_entropy: float
    hidden_sizes: tuple[int, ...] = (256, 256)
    replay_size: int = 1_000_000
    batch_size: int = 256
    lr: float = 3e-4
    gamma: float = 0.99  # discount
    polyak: float = 0.995  # target <- polyak * target + (1 - polyak) * critic
    alpha: float = 0.2  # temperature; with auto_alpha, until its first update only
    auto_alpha: bool = True
    start_steps: int = 5000  # of random actions
    delay_update_steps: int = 5000  # updates start when the buffer holds more rows than this
    utd_ratio: int = 1  # critic updates for each environment step
    num_Q: int = 2
    num_min: float = 2  # targets in the minimum; 1.5 is 1 or 2 with equal chances
    q_target_mode: TargetMode = "min"
    policy_update_delay: int = 20  # critic updates for each of policy and temperature
    critic_layer_norm: bool = False
    precision: Precision = "fp32"
    compile: CompileMode = "off"


class Noise(NamedTuple):
    """The random numbers of one block of U updates, P of them with a policy update.

    ``next_actions [U, 1, B, A]`` and ``actions [P, 1, B, A]`` are standard normal; ``members``
    holds, for each update, which target critics the minimum is over ``[M]``, or None for all;
    ``mixture [U, 1, N, B, 1]`` are REM's weights, which sum to 1 over the critics, and None in
    other modes.
    """

    next_actions: Tensor
    actions: Tensor
    members: list[Tensor | None]
    mixture: list[Tensor | None]


class TargetInputs(NamedTuple):
    """The part of the critics' targets that the policy gives: ``inputs [S, B, O + A]``, next states
    and the actions drawn there; ``rewards [S, B, 1]`` with the entropy bonus of these; ``discounts
    [S, B, 1]``, 0 where a row is terminal."""

    inputs: Tensor
    rewards: Tensor
    discounts: Tensor


# ---- Networks ----
def xavier_init(weight: Tensor, bias: Tensor, generator: torch.Generator) -> None:
    """Xavier's uniform weights (Glorot & Bengio 2010), biases 0."""
    bound = (6 / sum(weight.shape)) ** 0.5
    weight.uniform_(-bound, bound, generator=generator)
    bias.zero_()


class REDQSACAgent(Learner):
    """The agent and its replay. Networks are stacks of one seed; S below is 1.

    Args:
        config: see :class:`AgentConfig`.
        dims: columns of a state and of an action.
        seed: of weights, exploration, batches and noise, each a stream of its own.
        device: of networks and replay.
    """

    acts_with = ("actor",)

    def __init__(
        self, config: AgentConfig, dims: Dims, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config.compile)
        self.config, self.dims = config, dims
        self.replay = RowBuffer(TransitionLayout(*dims), config.replay_size, device)
        generators = generators_for([seed], "init")
        hidden = list(config.hidden_sizes)
        self.actor = StackedMLP(
            [1], [dims.state, *hidden, 2 * dims.action], generators,
            init=xavier_init, precision=config.precision,
        ).to(device)  # fmt: skip
        self.critics = StackedCritic(
            1, config.num_Q, *dims, hidden, generators,
            init=xavier_init, precision=config.precision, layer_norm=config.critic_layer_norm,
        ).to(device)  # fmt: skip
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(1, device=device))
        self.alpha: Tensor
        self.register_buffer("alpha", torch.full((1,), config.alpha, device=device))
        self.actor_optimizer = adam(self.actor.parameters(), config.lr)
        self.critic_optimizer = adam(self.critics.parameters(), config.lr)
        self.alpha_optimizer = adam([self.log_alpha], config.lr)
        self._train_on = self._graphed() if config.compile in CAPTURED else None
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Begin the streams of exploration, batches and noise anew."""
        self.generators = {
            purpose: generators_for([seed], purpose, self.replay.device)[0] for purpose in STREAMS
        }

    def streams_state(self) -> dict[str, Tensor]:
        """The states of the streams of exploration, batches and noise, for a checkpoint."""
        return {purpose: self.generators[purpose].get_state() for purpose in STREAMS}

    def load_streams_state(self, state: dict[str, Tensor]) -> None:
        stored = [state[purpose] for purpose in STREAMS]
        restore_generators([self.generators[purpose] for purpose in STREAMS], stored)

    # ---- Acting ----
    @torch.no_grad()
    def explore(self, states: Tensor) -> Tensor:
        """Actions to collect with, ``[S, N, A]`` for states ``[S, N, O]``: uniform ones while the
        replay holds ``start_steps`` rows or less (as in REDQ's release), drawn from the policy
        after that."""
        shape, generator = (*states.shape[:-1], self.dims.action), self.generators["explore"]
        if self.replay.size <= self.config.start_steps:
            return 2 * torch.rand(shape, generator=generator, device=states.device) - 1
        noise = torch.randn(shape, generator=generator, device=states.device)
        return self.sample(states, noise)[0]

    @torch.no_grad()
    def act(self, states: Tensor) -> Tensor:
        """Deterministic actions ``[S, N, A]``: the Gaussian's mean, squashed."""
        mean, _ = self.actor(states).chunk(2, dim=-1)
        return mean.tanh()

    def sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``[S, B, A]`` of the policy and their log-densities ``[S, B, 1]``."""
        mean, log_std = self.actor(states).chunk(2, dim=-1)
        return squashed_gaussian(mean, log_std.clamp(*LOG_STD_BOUNDS), noise)

    # ---- Losses ----
    def target_inputs(self, batch: Batch, noise: Tensor) -> TargetInputs:
        """The policy's part of the targets; see :class:`TargetInputs`."""
        actions, log_probs = self.sample(batch.next_states, noise)
        discounts = self.config.gamma * (1 - batch.dones)
        rewards = batch.rewards - discounts * (self.alpha.view(-1, 1, 1) * log_probs)
        inputs = torch.cat([batch.next_states, actions], dim=-1)
        return TargetInputs(inputs, rewards, discounts)

    def target(self, ahead: TargetInputs, members: Tensor | None, mixture: Tensor | None) -> Tensor:
        """``r + gamma * (1 - d) * (Q'(s', a') - alpha * log pi(a'|s'))`` ``[S, B, 1]``.

        Q' is the minimum over the chosen ``members`` of the target critics (REDQ, algorithm 1), the
        mean over all, or REM's random mixture of all.
        """
        q = self.target_critics.mlp(ahead.inputs, members=members)  # [S, M, B, 1]
        if mixture is not None:
            value = (mixture * q).sum(dim=1)
        elif self.config.q_target_mode == "ave":
            value = q.mean(dim=1)
        else:
            value = q.amin(dim=1)
        return ahead.rewards + ahead.discounts * value

    def critic_loss(
        self, inputs: Tensor, ahead: TargetInputs, members: Tensor | None, mixture: Tensor | None
    ) -> tuple[Tensor, Metrics]:
        """Each critic's mean squared error to one common target, summed over the critics; states
        and actions are the ``inputs [S, B, O + A]``."""
        with torch.no_grad():
            target = self.target(ahead, members, mixture)
        q = self.critics.mlp(inputs)  # [S, N, B, 1]
        losses = (q - target.unsqueeze(1)).square().mean(dim=(2, 3))
        first = q[:, 0].detach().mean(dim=(1, 2))
        return losses.sum(), {"LossQ1": losses[:, 0].detach(), "Q1Vals": first}

    def actor_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Metrics]:
        """``alpha * log pi - Q``, Q the mean over all critics."""
        actions, log_probs = self.sample(batch.states, noise)
        q = self.critics(batch.states, actions, frozen=True).mean(dim=1)
        losses = (self.alpha.view(-1, 1, 1) * log_probs - q).mean(dim=(1, 2))
        entropy = log_probs.detach().mean(dim=(1, 2))
        return losses.sum(), {"LossPi": losses.detach(), "LogPi": entropy}

    def alpha_loss(self, log_probs: Tensor) -> tuple[Tensor, Metrics]:
        """``-log alpha * (log pi + target entropy)``, for mean log-densities ``[S]``."""
        losses = -self.log_alpha * (log_probs + self.config.target_entropy)
        return losses.sum(), {"LossAlpha": losses.detach()}

    # ---- Update ----
    def train_block(self) -> Metrics:
        """Take the ``utd_ratio`` updates that follow one environment step. While the replay holds
        ``delay_update_steps`` rows or less there are none, and no metrics.

        Each is one step of all critics and of their targets. Every ``policy_update_delay``-th, and
        the last, is also one of the policy (on the critics just updated, as in SAC) and of the
        temperature. Metrics are those of the last update.
        """
        if self.replay.size <= self.config.delay_update_steps:
            return {}
        if self._train_on is not None:
            return self._train_on((self.draw(), self.draw_noise()))
        return self.update_block(self.draw(), self.draw_noise())

    def _graphed(self) -> Replayed[Metrics]:
        """:meth:`update_block` as one CUDA graph: all updates that follow an environment step."""
        return Replayed(lambda block, _: self.update_block(*block), self.replay.device)

    def update_block(self, batches: Batch, noise: Noise) -> Metrics:
        """:meth:`train_block` with the batches ``[S, U, B, ...]`` and random numbers given."""
        inputs = torch.cat([batches.states, batches.actions], dim=-1)
        metrics: Metrics = {}
        start = 0
        for policy_noise in noise.actions:
            # The policy stands still until its next update: all targets before that in one pass.
            stop = next(i for i in itertools.count(start) if self.updates_policy(i)) + 1
            ahead = self._target_inputs(batches, noise.next_actions, start, stop)
            for i in range(start, stop):
                now = TargetInputs(*(each[:, i - start] for each in ahead))
                chosen = (noise.members[i], noise.mixture[i])
                metrics |= self.descend(
                    self.critic_optimizer, self.critic_loss, inputs[:, i], now, *chosen
                )
                if i + 1 == stop:
                    batch = Batch(*(each[:, i] for each in batches))
                    metrics |= self._update_policy(batch, policy_noise)
                move_targets(self.target_critics, self.critics, 1 - self.config.polyak)
            start = stop
        return metrics

    @torch.no_grad()
    def _target_inputs(self, batches: Batch, noise: Tensor, start: int, stop: int) -> TargetInputs:
        """Target inputs ``[S, stop - start, B, ...]`` of the batches from ``start`` to ``stop``."""
        rows = Batch(*(each[:, start:stop].flatten(1, 2) for each in batches))
        ahead = self.target_inputs(rows, noise[start:stop].transpose(0, 1).flatten(1, 2))
        return TargetInputs(*(each.unflatten(1, (stop - start, -1)) for each in ahead))

    def _update_policy(self, batch: Batch, noise: Tensor) -> Metrics:
        metrics = self.descend(self.actor_optimizer, self.actor_loss, batch, noise)
        if self.config.auto_alpha:
            metrics |= self.descend(self.alpha_optimizer, self.alpha_loss, metrics["LogPi"])
            self.alpha.copy_(self.log_alpha.detach().exp())
        return metrics | {"Alpha": self.alpha.clone()}

    def updates_policy(self, i: int) -> bool:
        """Whether update ``i`` of a block, counted from 0, is one of the policy too."""
        return (i + 1) % self.config.policy_update_delay == 0 or i + 1 == self.config.utd_ratio

    # ---- Drawing ----
    def draw(self) -> Batch:
        """The batches of one block ``[S, U, B, ...]``, out of one gather."""
        blocks = (self.config.utd_ratio, self.config.batch_size)
        indices = self.replay.draw_indices(blocks[0] * blocks[1], [self.generators["data"]])
        return self.replay.gather(indices.unflatten(1, blocks))

    def draw_noise(self) -> Noise:
        """The random numbers of one block."""
        config, generator = self.config, self.generators["noise"]
        device = generator.device
        blocks, batch = config.utd_ratio, config.batch_size
        policies = sum(map(self.updates_policy, range(blocks)))
        normal = torch.randn(
            (blocks + policies, 1, batch, self.dims.action), generator=generator, device=device
        )
        members: list[Tensor | None] = [None] * blocks
        mixture: list[Tensor | None] = [None] * blocks
        if config.q_target_mode == "min" and config.num_min < config.num_Q:
            chosen = (config.num_Q, config.num_min, generator)
            members = [random_members(*chosen) for _ in range(blocks)]
        elif config.q_target_mode == "rem":
            shape = (blocks, 1, config.num_Q, batch, 1)
            weights = torch.rand(shape, generator=generator, device=device)
            mixture = list(weights / weights.sum(dim=2, keepdim=True))
        return Noise(normal[:blocks], normal[blocks:], members, mixture)

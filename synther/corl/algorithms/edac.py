"""EDAC (An et al. 2021, arXiv 2110.01548) is SAC with N critics whose action gradients differ.

    python3 synther/corl/algorithms/edac.py \
        --config synther/corl/yaml/edac/halfcheetah/medium_replay_v2.yaml \
        --checkpoints_path corl_logs/ --name SynthER --diffusion.path samples.npz
"""

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
import copy
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from synther.corl.shared.command import command
from synther.corl.shared.config import RunConfig
from synther.learning.learner import Agent, Dims, Metrics, adam
from synther.learning.nets import StackedMLP, move_targets, squashed_gaussian, squashed_normal
from synther.learning.replay import Batch
from synther.ranges import (
    Count,
    CountFrom0,
    Members,
    NotNegative,
    Seed,
    Share,
    Width,
    plain_types,
)
from synther.runs.settings import ConfigError, check

HIDDEN_LAYERS = 3
LOG_STD_BOUNDS = (-5.0, 2.0)


# ---- Config ----
@plain_types
@dataclass
class EDACConfig(RunConfig):
    """Keys and defaults of EDAC; the others are RunConfig's.

    EDAC counts in epochs; ``max_timesteps`` and ``eval_freq``, in updates, may be given in place of
    ``num_epochs`` and ``eval_every``. ``env_name``, ``gamma``, ``eval_episodes`` and
    ``deterministic_torch`` are other names of ``env``, ``discount``, ``n_episodes`` and
    ``deterministic``.
    """

    name: str = "EDAC"
    env: str = "halfcheetah-medium-v2"  # data set: its name, or the path of an .hdf5 or .npz
    hidden_dim: Width = 256  # width of the three hidden layers
    num_critics: Members = 10  # critics in the ensemble, the paper's N
    eta: NotNegative = 1.0  # weight of the gradients' diversity; 0 is SAC-N
    tau: Share = 0.005  # target <- target + tau * (critic - target)
    actor_learning_rate: NotNegative = 3e-4  # of Adam
    critic_learning_rate: NotNegative = 3e-4  # of Adam
    alpha_learning_rate: NotNegative = 3e-4  # of Adam, for the temperature
    num_epochs: Count = 3000  # epochs in all
    num_updates_on_epoch: Count = 1000  # updates of an epoch
    eval_every: Count = 5  # epochs from one evaluation to the next
    max_timesteps: CountFrom0 = 0  # updates in all; 0: num_epochs * num_updates_on_epoch
    eval_freq: CountFrom0 = 0  # updates between evaluations; 0: eval_every * num_updates_on_epoch
    eval_seed: Seed = 42  # seed of the evaluation's episodes, the same for every agent
    normalize: bool = False  # scale states by mean and standard deviation of the data set

    ALIASES: ClassVar[Mapping[str, str]] = {
        "env_name": "env", "gamma": "discount", "eval_episodes": "n_episodes",
        "deterministic_torch": "deterministic",
    }  # fmt: skip

    def __post_init__(self) -> None:
        check(self)  # a product of the fields, below, has to be one too
        self._updates_from_epochs("max_timesteps", "num_epochs")
        self._updates_from_epochs("eval_freq", "eval_every")
        super().__post_init__()

    def _updates_from_epochs(self, updates: str, epochs: str) -> None:
        """Work out a number of updates from epochs, unless it was given in their place."""
        product = getattr(self, epochs) * self.num_updates_on_epoch
        given = getattr(self, updates) or product
        if given != product and getattr(self, epochs) != getattr(type(self), epochs):
            raise ConfigError(
                f"{updates} is {given}, {epochs} * num_updates_on_epoch {product}: give one of them"
            )
        setattr(self, updates, given)

    @property
    def eval_seeds(self) -> list[int]:
        return [self.eval_seed] * self.num_seeds


# ---- Networks ----
def hidden_init(weight: Tensor, bias: Tensor, generator: torch.Generator) -> None:
    """Weights uniform in +-1/sqrt(inputs), biases 0.1."""
    bound = weight.shape[0] ** -0.5
    weight.uniform_(-bound, bound, generator=generator)
    bias.fill_(0.1)


def last_init(bound: float, weight: Tensor, bias: Tensor, generator: torch.Generator) -> None:
    """Weights and biases uniform in +-bound."""
    weight.uniform_(-bound, bound, generator=generator)
    bias.uniform_(-bound, bound, generator=generator)


class DiverseCritics(nn.Module):
    """N ReLU critics a seed, which also give the gradients of their values by the action."""

    def __init__(
        self, config: EDACConfig, dims: Dims, hidden: list[int], generators: list[torch.Generator]
    ) -> None:
        super().__init__()
        self.stack = (len(generators), config.num_critics)
        self.mlp = StackedMLP(
            self.stack, [sum(dims), *hidden, 1], generators,
            init=hidden_init, last_init=partial(last_init, 3e-3), precision=config.precision,
        )  # fmt: skip

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """States ``[S, B, O]`` and actions ``[S, B, A]`` -> Q ``[S, N, B, 1]``.

        The weights count as constants: the gradient flows to the actions alone, as the actor's loss
        and the targets want it.
        """
        return self.mlp(torch.cat([states, actions], dim=-1), frozen=True)

    def with_action_gradient(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Q ``[S, N, B, 1]`` and dQ/da ``[S, N, B, A]``, both differentiable by the weights.

        A ReLU network is linear around almost every input: dQ/da is the last layer's weights taken
        back through the others, without the units that are off. Which ones are off does not change
        in a small step, so that the gradient of this product by the weights is the exact second
        derivative, at the price of one more pass instead of a graph of the backward pass.
        """
        weights = self.mlp.weights()
        hidden = self._hidden(states, actions, weights)
        active = [each.detach().sign() for each in hidden]  # 1 where a unit is on
        first, *inner, last = weights[::2]
        gradient = last.mT * active.pop()
        for weight in reversed(inner):
            gradient = self._product(gradient, weight.mT).mul_(active.pop())
        value = hidden[-1] @ last + weights[-1]
        return value, gradient @ first[..., states.shape[-1] :, :].mT

    def _hidden(self, states: Tensor, actions: Tensor, weights: list[Tensor]) -> list[Tensor]:
        """Activations of the hidden layers, each ``[S, N, B, hidden_dim]``."""
        hidden = torch.cat([states, actions], dim=-1).unsqueeze(1).expand(*self.stack, -1, -1)
        layers = []
        for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            hidden = self._product(hidden, weight).add_(bias).relu_()
            layers.append(hidden)
        return layers

    @staticmethod
    def _product(inputs: Tensor, weight: Tensor) -> Tensor:
        return (inputs.to(weight.dtype) @ weight).to(inputs.dtype)


def similarity(gradients: Tensor) -> Tensor:
    """Ensemble similarity (section 4): cosines between action gradients, which EDAC makes small.

    Args:
        gradients: dQ/da ``[S, N, B, A]``.

    Returns:
        ``[S]``: mean over the batch of ``sum_{i != j} cos(g_i, g_j) / (N - 1)``. The sum over all
        pairs is the square of the summed unit vectors, so that no N x N matrix is needed.
    """
    units = nn.functional.normalize(gradients, dim=-1, eps=1e-10)
    pairs = units.sum(dim=1).square().sum(dim=-1) - units.square().sum(dim=(1, 3))  # [S, B]
    return pairs.mean(dim=1) / max(gradients.shape[1] - 1, 1)


class EDAC(Agent):
    acts_with = ("actor", "config")

    def __init__(
        self,
        config: EDACConfig,
        dims: Dims,
        generators: list[torch.Generator],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config.compile)
        self.config, self.dims = config, dims
        seeds, hidden = len(generators), [config.hidden_dim] * HIDDEN_LAYERS
        self.actor = StackedMLP(
            [seeds], [dims.state, *hidden, 2 * dims.action], generators,
            init=hidden_init, last_init=partial(last_init, 1e-3), precision=config.precision,
        ).to(device)  # fmt: skip
        self.critics = DiverseCritics(config, dims, hidden, generators).to(device)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(seeds, device=device))
        self.actor_optimizer = adam(self.actor.parameters(), config.actor_learning_rate)
        self.critic_optimizer = adam(self.critics.parameters(), config.critic_learning_rate)
        self.alpha_optimizer = adam([self.log_alpha], config.alpha_learning_rate)

    def act(self, states: Tensor) -> Tensor:
        mean, _ = self.actor(states).chunk(2, dim=-1)
        return self.config.max_action * mean.tanh()

    def policy(self, states: Tensor) -> Distribution:
        mean, log_std = self.actor(states).chunk(2, dim=-1)
        return squashed_normal(mean, log_std.clamp(*LOG_STD_BOUNDS), self.config.max_action)

    def sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``[S, B, A]`` and their log-densities ``[S, B, 1]``, in units of max_action."""
        mean, log_std = self.actor(states).chunk(2, dim=-1)
        actions, log_probs = squashed_gaussian(mean, log_std.clamp(*LOG_STD_BOUNDS), noise)
        return self.config.max_action * actions, log_probs

    # ---- Losses ----
    def alpha_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Metrics]:
        """``-log alpha * (log pi - |A|)``: the entropy's target is -|A|."""
        with torch.no_grad():
            _, log_probs = self.sample(batch.states, noise)
        entropy = -log_probs.mean(dim=(1, 2))
        losses = self.log_alpha * (entropy + self.dims.action)
        alpha = self.log_alpha.detach().exp()
        return losses.sum(), {"alpha_loss": losses.detach(), "alpha": alpha, "entropy": entropy}

    def actor_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Metrics]:
        """``alpha * log pi - min Q`` over all N critics."""
        actions, log_probs = self.sample(batch.states, noise)
        q = self.critics(batch.states, actions)  # [S, N, B, 1]
        losses = (self._alpha() * log_probs - q.amin(dim=1)).mean(dim=(1, 2))
        spread = q.detach().std(dim=1, correction=0).mean(dim=(1, 2))
        return losses.sum(), {"actor_loss": losses.detach(), "q_spread": spread}

    def critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Metrics]:
        """Each critic's mean squared error, summed, plus ``eta`` times their similarity."""
        config = self.config
        with torch.no_grad():
            next_actions, log_probs = self.sample(batch.next_states, noise)
            next_q = self.target_critics(batch.next_states, next_actions).amin(dim=1)
            value = next_q - self._alpha() * log_probs
            target = batch.rewards + config.discount * (1 - batch.dones) * value
        q, gradients = self.critics.with_action_gradient(batch.states, batch.actions)
        errors = (q - target.unsqueeze(1)).square().mean(dim=(2, 3)).sum(dim=1)
        alike = similarity(gradients)
        metrics = {"critic_loss": errors, "similarity": alike, "q": q.mean(dim=(1, 2, 3))}
        loss = (errors + config.eta * alike).sum()
        return loss, {key: value.detach() for key, value in metrics.items()}

    def _alpha(self) -> Tensor:
        return self.log_alpha.detach().exp().view(-1, 1, 1)

    # ---- Update ----
    def noise(self, generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
        shape = (updates, 2, self.config.batch_size, self.dims.action)
        return torch.randn(shape, generator=generator, device=generator.device).unbind(dim=1)

    def update(self, batch: Batch, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        now, later = noise  # for actions at the states and at the next states
        metrics = self.descend(self.alpha_optimizer, self.alpha_loss, batch, now)
        metrics |= self.descend(self.actor_optimizer, self.actor_loss, batch, now)
        metrics |= self.descend(self.critic_optimizer, self.critic_loss, batch, later)
        move_targets(self.target_critics, self.critics, self.config.tau)
        return metrics


# ---- main ----
def main() -> None:
    """Train by the command line's configuration."""
    command(EDACConfig, EDAC)


if __name__ == "__main__":
    main()

"""Make the data set that ships inside: ``python3 -m synther.datasets.make_demo``.

A SAC agent (Haarnoja et al. 2018, arXiv 1812.05905) learns to hop from nothing on ``Hopper-v2``
physics, with one update for each environment step after 2 000 random ones. Everything it does goes
into the data, exploration included: falls from the first steps, half-learnt hops, and the gaits of
its last episodes. That is the way a D4RL *replay* set comes about, but this is none of
theirs, and its scores are not to be compared with theirs. To stay small enough to ship, only every
``keep_every``-th episode is kept, whole.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synther.envs import make_env
from synther.loggers import progress_bar
from synther.nets import StackedCritic, StackedMLP, move_targets, squashed_gaussian
from synther.replay import Batch, RowBuffer
from synther.runtime import RL_THREADS, cpu_threads
from synther.transitions import TransitionLayout, Transitions

SHIPPED = Path(__file__).parent / "data" / "hopper-demo-v0.npz"


@dataclass(frozen=True)
class DemoConfig:
    """Behaviour behind the shipped data set."""

    env_id: str = "Hopper-v2"
    seed: int = 0
    num_steps: int = 60_000  # environment steps of the training run
    keep_every: int = 2  # episodes: 1 keeps all of them
    random_steps: int = 2_000  # uniform actions at the start
    batch_size: int = 128
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 1e-3
    discount: float = 0.99
    target_rate: float = 0.005


class SAC:
    """Soft actor-critic with a learned temperature, for actions in [-1, 1]."""

    def __init__(self, observation_dim: int, action_dim: int, config: DemoConfig) -> None:
        self.config = config
        self.generator = torch.Generator().manual_seed(config.seed)
        generators = [self.generator]
        self.actor = StackedMLP([1], [observation_dim, *config.hidden, 2 * action_dim], generators)
        self.critic = StackedCritic(1, 2, observation_dim, action_dim, config.hidden, generators)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.target_entropy = -float(action_dim)
        self.optimizers = [
            torch.optim.Adam(parameters, config.learning_rate, fused=True)
            for parameters in (self.critic.parameters(), self.actor.parameters(), [self.log_alpha])
        ]

    def sample(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``[1, B, A]`` of the policy and their log-densities ``[1, B, 1]``."""
        mean, log_std = self.actor(states).chunk(2, dim=-1)
        noise = torch.randn(mean.shape, generator=self.generator)
        return squashed_gaussian(mean, log_std.clamp(-20, 2), noise)

    @torch.no_grad()
    def act(self, observation: np.ndarray) -> np.ndarray:
        """One action ``[A]``, drawn from the policy, for one observation ``[O]``."""
        return self.sample(torch.from_numpy(observation).view(1, 1, -1))[0].view(-1).numpy()

    def update(self, batch: Batch) -> None:
        """One step of critics, actor and temperature, and of the target critics."""
        critic_step, actor_step, alpha_step = self.optimizers
        values = self.critic(batch.states, batch.actions)
        errors = values - self._target(batch).unsqueeze(1)
        _step(critic_step, errors.square().mean(dim=(2, 3)).sum())
        actions, log_densities = self.sample(batch.states)
        smallest = self.critic(batch.states, actions, frozen=True).amin(dim=1)
        alpha = self.log_alpha.detach().exp()
        _step(actor_step, (alpha * log_densities - smallest).mean())
        surplus = (log_densities.detach() + self.target_entropy).mean()
        _step(alpha_step, -self.log_alpha * surplus)
        move_targets(self.critic_target, self.critic, self.config.target_rate)

    @torch.no_grad()
    def _target(self, batch: Batch) -> Tensor:
        actions, log_densities = self.sample(batch.next_states)
        smallest = self.critic_target(batch.next_states, actions).amin(dim=1)
        soft = smallest - self.log_alpha.exp() * log_densities
        return batch.rewards + self.config.discount * (1 - batch.dones) * soft


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def collect(config: DemoConfig) -> tuple[Transitions, list[float]]:
    """Train, and return every transition with the return of each finished episode."""
    env = make_env(config.env_id)
    assert env.observation_space.shape  # make_env hands out vectors only
    assert env.action_space.shape
    layout = TransitionLayout(env.observation_space.shape[0], env.action_space.shape[0])
    buffer = RowBuffer(layout, config.num_steps)
    agent = SAC(layout.observation_dim, layout.action_dim, config)
    actions = np.random.default_rng(config.seed)
    episode_ends: list[int] = []
    returns: list[float] = []
    observation, episode_return = env.reset(seed=config.seed)[0], 0.0
    with progress_bar(config.num_steps, f"SAC on {config.env_id}") as bar:
        for step in range(config.num_steps):
            exploring = step < config.random_steps
            action = (
                actions.uniform(-1, 1, layout.action_dim) if exploring else agent.act(observation)
            ).astype(np.float32)
            next_observation, reward, terminated, truncated, _ = env.step(action)
            row = np.concatenate([observation, action, [reward], next_observation, [terminated]])
            buffer.insert(torch.from_numpy(row.astype(np.float32))[None])
            episode_return += float(reward)
            observation = next_observation
            if terminated or truncated:
                episode_ends.append(step + 1)
                returns.append(episode_return)
                observation, episode_return = env.reset()[0], 0.0
                bar.set_postfix_str(f"return {np.mean(returns[-10:]):.0f}", refresh=False)
            if not exploring:
                agent.update(buffer.sample(config.batch_size, [agent.generator]))
            bar.update()
    kept = _kept_rows(episode_ends, config)
    rows = buffer.valid_rows().numpy()[kept]
    return layout.unpack(rows, metadata=_metadata(config, returns)), returns


def _kept_rows(episode_ends: list[int], config: DemoConfig) -> np.ndarray:
    """Indices of the rows of every ``keep_every``-th finished episode."""
    starts = [0, *episode_ends[:-1]]
    chosen = list(zip(starts, episode_ends, strict=True))[:: config.keep_every]
    return np.concatenate([np.arange(start, end) for start, end in chosen])


def _metadata(config: DemoConfig, returns: list[float]) -> dict[str, Any]:
    kept = np.array(returns[:: config.keep_every])
    return {
        "env_id": config.env_id,
        "source": "SAC training run, python3 -m synther.datasets.make_demo",
        "config": asdict(config) | {"hidden": list(config.hidden)},
        "episodes": len(kept),
        "episode_return": {
            "mean": round(float(kept.mean()), 1),
            "min": round(float(kept.min()), 1),
            "max": round(float(kept.max()), 1),
        },
    }


def main() -> None:
    defaults = DemoConfig()
    parser = argparse.ArgumentParser(
        description="Make the data set that ships inside, or one like it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=SHIPPED, help="the .npz to write")
    parser.add_argument("--env_id", default=defaults.env_id)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument(
        "--num_steps", type=int, default=defaults.num_steps, help="of the environment"
    )
    parser.add_argument("--keep_every", type=int, default=defaults.keep_every, help="episodes")
    arguments = vars(parser.parse_args())
    output = arguments.pop("output")
    with cpu_threads(RL_THREADS):
        transitions, returns = collect(DemoConfig(**arguments))
    transitions.save(output, compress=True)
    parser.exit(
        message=f"{output}: {len(transitions)} rows, {int(transitions.terminals.sum())} terminals, "
        f"{output.stat().st_size / 1e6:.2f} MB; last ten returns of the run "
        f"{', '.join(f'{value:.0f}' for value in returns[-10:])}\n"
    )


if __name__ == "__main__":
    main()

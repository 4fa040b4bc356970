"""Environment steps a second of the online agents beside a plain twin that loops over critics.

    python3 benchmarks/online_speed.py [--agents sac,synther,redq] [--compile] [--quick]

One unit of work is what follows one action: a step of ``HalfCheetah-v2``, the row stored, and the
whole block of updates. The twin is what one writes without thinking of speed: one torch.nn network
and one Adam a critic, batches drawn from numpy arrays one update at a time, targets in a loop. All
variants take turns within each round, so that whatever else the machine does falls on all alike;
gains are medians, over the rounds, of ratios within a round, with the 10 % and 90 % quantiles. The
share is that of the machine's own float32 rate at products of 256 x 256 x 256, counting every
product of a step; bf16 can pass 100 %.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_agents import SquashedActor, adam, descend, follow, mlp
from products import bare_products, operations_of, rate_of, seconds_of
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from synther.envs import make_env
from synther.learning.learner import Dims
from synther.online.redq_rlpd_agent import REDQRLPDAgent
from synther.online.redq_sac import AgentConfig
from synther.runs.runtime import available_cpus, cpu_threads, keep_freed_memory, resolve_device

ENV = "HalfCheetah-v2"
ROWS = 20_000
AGENTS: dict[str, dict[str, Any]] = {
    "sac": {"utd_ratio": 1, "num_Q": 2, "synthetic": 0.0, "target": 1.3},
    "synther": {"utd_ratio": 20, "num_Q": 2, "synthetic": 0.5, "target": 1.8},
    "redq": {"utd_ratio": 20, "num_Q": 10, "synthetic": 0.0, "target": 2.5},
}


class PlainREDQ:
    """REDQ as a straightforward program; rows of both buffers lie in numpy arrays."""

    def __init__(
        self, dims: Dims, rows: np.ndarray, *, utd_ratio: int, num_Q: int, synthetic: float
    ) -> None:
        self.actor = SquashedActor(*dims, hidden=[256, 256], bounds=(-20, 2))
        self.critics = nn.ModuleList(mlp(sum(dims), [256, 256], 1) for _ in range(num_Q))
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.actor_adam = adam(self.actor.parameters())
        self.critic_adams = [adam(critic.parameters()) for critic in self.critics]
        self.alpha_adam = adam([self.log_alpha])
        self.dims, self.utd_ratio = dims, utd_ratio
        self.random = np.random.default_rng(0)
        self.real, self.synthetic = rows.copy(), rows.copy()
        self.synthetic_rows = int(256 * synthetic)

    def act(self, observation: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.actor(torch.from_numpy(observation)[None])[0][0].numpy()

    def store(self, row: np.ndarray) -> None:
        self.real[0] = row

    def sample(self) -> list[Tensor]:
        chosen = self.real[self.random.integers(len(self.real), size=256 - self.synthetic_rows)]
        if self.synthetic_rows:
            made = self.synthetic[
                self.random.integers(len(self.synthetic), size=self.synthetic_rows)
            ]
            chosen = np.concatenate([chosen, made])
        states, actions = self.dims
        widths = [states, actions, 1, states, 1]
        return list(torch.from_numpy(chosen).split(widths, dim=1))

    def learn(self) -> None:
        for i in range(self.utd_ratio):
            states, actions, rewards, next_states, dones = self.sample()
            pair = self.random.choice(len(self.critics), 2, replace=False)
            alpha = self.log_alpha.exp().item()
            with torch.no_grad():
                next_actions, log_probs = self.actor(next_states)
                joined = torch.cat([next_states, next_actions], 1)
                next_q = torch.cat([self.targets[k](joined) for k in pair], 1).amin(1, True)
                target = rewards + 0.99 * (1 - dones) * (next_q - alpha * log_probs)
            joined = torch.cat([states, actions], 1)
            q = torch.cat([critic(joined) for critic in self.critics], 1)
            loss = (q - target).square().mean() * len(self.critics)
            for optimizer in self.critic_adams:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in self.critic_adams:
                optimizer.step()
            if i == self.utd_ratio - 1:
                self.learn_policy(states, alpha)
            follow(self.targets, self.critics)

    def learn_policy(self, states: Tensor, alpha: float) -> None:
        chosen, log_probs = self.actor(states)
        joined = torch.cat([states, chosen], 1)
        for parameter in self.critics.parameters():
            parameter.requires_grad_(False)
        q = torch.cat([critic(joined) for critic in self.critics], 1).mean(1, True)
        descend(self.actor_adam, (alpha * log_probs - q).mean())
        for parameter in self.critics.parameters():
            parameter.requires_grad_(True)
        surplus = (log_probs - self.dims.action).mean().detach()
        descend(self.alpha_adam, -self.log_alpha * surplus)


class Ours:
    """The agent of ``synther.online`` with full buffers."""

    def __init__(
        self,
        dims: Dims,
        rows: np.ndarray,
        device: torch.device,
        *,
        synthetic: float,
        **options: Any,
    ) -> None:
        config = AgentConfig(
            target_entropy=-dims.action, start_steps=0, delay_update_steps=0,
            replay_size=len(rows), **options,
        )  # fmt: skip
        self.agent = REDQRLPDAgent(
            config, dims, 0, device,
            diffusion_buffer_size=len(rows), diffusion_sample_ratio=synthetic,
        )  # fmt: skip
        self.agent.replay.insert(torch.from_numpy(rows))
        if synthetic:
            self.agent.synthetic.insert(torch.from_numpy(rows))

    def act(self, observation: np.ndarray) -> np.ndarray:
        states = torch.from_numpy(observation).to(self.agent.replay.device).view(1, 1, -1)
        return self.agent.explore(states)[0, 0].cpu().numpy()

    def store(self, row: np.ndarray) -> None:
        self.agent.replay.insert(torch.from_numpy(row)[None])

    def learn(self) -> None:
        self.agent.train_block()


def work_of(agent: Any) -> Callable[[int], None]:
    """Steps of the environment with all that follows them."""
    env = make_env(ENV)
    observation = env.reset(seed=0)[0]

    def work(steps: int) -> None:
        nonlocal observation
        for _ in range(steps):
            action = agent.act(observation)
            after, reward, terminated, truncated, _ = env.step(action)
            row = np.concatenate([observation, action, [reward], after, [terminated]])
            agent.store(row.astype(np.float32))
            observation = env.reset()[0] if terminated or truncated else after
            agent.learn()

    return work


def measure(
    works: dict[str, Callable[[int], None]], device: torch.device, quick: bool
) -> dict[str, np.ndarray]:
    """Seconds a step of each variant, one number a round."""
    slice_seconds, rounds = (0.3, 5) if quick else (1.0, 15)
    counts = {}
    for name, work in works.items():
        work(3)  # past lazy set-up and compilation
        counts[name] = max(1, round(slice_seconds / seconds_of(work, 2, device)))
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds_of(work, counts[name], device))
    return {name: np.array(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", default=",".join(AGENTS), help="comma-separated names")
    parser.add_argument("--device", default="cpu", help="of our variants; the twin is on the CPU")
    parser.add_argument("--compile", action="store_true", help="the compiled updates as well")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    arguments = parser.parse_args()
    device, console = resolve_device(arguments.device), Console()
    env = make_env(ENV)
    dims = Dims(env.observation_space.shape[0], env.action_space.shape[0])
    rows = np.random.default_rng(0).normal(size=(ROWS, 2 * dims.state + dims.action + 2))
    rows = rows.astype(np.float32)
    rows[:, -1] = 0
    table = Table("agent", "variant", "steps/s", "gain (10 to 90 %)", "target", "of matrix rate")
    numbers: dict[str, Any] = {}
    with cpu_threads(1):
        keep_freed_memory()  # as the loop does; the twin has it too
        for name in arguments.agents.split(","):
            torch.manual_seed(0)
            options = dict(AGENTS[name])
            target = options.pop("target")
            works = {"plain": work_of(PlainREDQ(dims, rows, **options))}
            variants: dict[str, dict[str, Any]] = {"stacked": {}, "bf16": {"precision": "bf16"}}
            if arguments.compile:
                variants["compiled"] = {"compile": "default"}
                variants["compiled bf16"] = {"compile": "default", "precision": "bf16"}
            for variant, extra in variants.items():
                works[variant] = work_of(Ours(dims, rows, device, **options, **extra))
            works["products"] = bare_products(device)
            times, numbers[name] = measure(works, device, arguments.quick), {}
            rate, step = rate_of(times.pop("products")), works["stacked"]
            operations = operations_of(lambda step=step: step(1))
            for variant, seconds in times.items():
                low, middle, high = np.quantile(times["plain"] / seconds, [0.1, 0.5, 0.9])
                steps, share = np.median(1 / seconds), np.median(operations / seconds / rate)
                numbers[name][variant] = {
                    "steps_per_second": float(steps), "gain": float(middle),
                    "gain_10_90": [float(low), float(high)], "share_of_matrix_rate": float(share),
                }  # fmt: skip
                first = variant == "plain"
                gain = "" if first else f"{middle:.2f} ({low:.2f} to {high:.2f})"
                table.add_row(
                    name if first else "", variant, f"{steps:.1f}", gain,
                    "" if first else f"{target}", "" if first else f"{share:.0%}",
                )  # fmt: skip
            table.add_section()
    console.print(table)
    console.print(
        f"{ENV}, batch 256, 1 of {available_cpus()} CPU threads, {device}, "
        f"torch {torch.__version__}"
    )
    if arguments.output:
        arguments.output.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

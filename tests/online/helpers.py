"""What the tests of the online room share: small agents, an environment that counts, short runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from synther.learning.learner import Dims
from synther.learning.replay import Batch
from synther.online.config import OnlineConfig
from synther.online.loop import OnlineRun
from synther.online.redq_sac import AgentConfig, Noise, REDQSACAgent
from synther.runs import gin_config
from synther.runs.loggers import read_metrics
from tests.devices import DEVICE
from tests.environments import register

DIMS = Dims(3, 2)
TINY_AGENT: dict[str, Any] = {
    "target_entropy": -2.0, "hidden_sizes": (8, 8), "replay_size": 100, "batch_size": 8,
    "start_steps": 0, "delay_update_steps": 0,
}  # fmt: skip
TINY_RUN: dict[str, Any] = {
    "hidden_sizes": (8, 8), "replay_size": 1000, "batch_size": 8, "start_steps": 10,
    "utd_ratio": 2, "num_Q": 3, "steps_per_epoch": 20, "epochs": 3, "max_ep_len": 50,
    "n_evals_per_epoch": 2, "target_entropy": "auto", "retrain_diffusion_every": 20,
    "num_samples": 30, "diffusion_buffer_size": 40, "print_buffer_stats": False,
}  # fmt: skip
TINY_DIFFUSION = (
    "construct_diffusion_model.denoising_network = @ResidualMLPDenoiser",
    "construct_diffusion_model.normalizer_type = 'standard'",
    "construct_diffusion_model.disable_terminal_norm = True",
    "ResidualMLPDenoiser.mlp_width = 16", "ResidualMLPDenoiser.num_layers = 1",
    "ResidualMLPDenoiser.dim_t = 8", "REDQTrainer.train_num_steps = 20",
    "REDQTrainer.train_batch_size = 16", "REDQTrainer.resume_every = 1e-6",
    "SimpleDiffusionGenerator.num_sample_steps = 3",
    "SimpleDiffusionGenerator.sample_batch_size = 12",
)  # fmt: skip


def make_agent(**keys: Any) -> REDQSACAgent:
    return REDQSACAgent(AgentConfig(**{**TINY_AGENT, **keys}), DIMS, seed=0, device=DEVICE)


def stirred(agent: REDQSACAgent) -> REDQSACAgent:
    """Some log-stds beyond their upper bound, and targets that differ from their critics."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        agent.actor.layers[-1].weight.mul_(4)
        for each in agent.target_critics.parameters():
            each += 0.3 * torch.randn(each.shape, generator=generator, dtype=each.dtype).to(DEVICE)
    return agent


def random_block(updates: int, rows: int, seed: int = 0) -> Batch:
    """``[1, U, B, ...]`` in float64: normal numbers, actions in [-1, 1], a fifth terminal."""
    generator = torch.Generator().manual_seed(seed)

    def normal(width: int) -> torch.Tensor:
        return torch.randn(1, updates, rows, width, generator=generator, dtype=torch.float64)

    dones = (torch.rand(1, updates, rows, 1, generator=generator) < 0.2).double()
    columns = normal(DIMS.state), normal(DIMS.action).tanh(), normal(1), normal(DIMS.state), dones
    return Batch(*(each.to(DEVICE) for each in columns))


def in_float64(noise: Noise) -> Noise:
    mixture = [None if each is None else each.double() for each in noise.mixture]
    return Noise(noise.next_actions.double(), noise.actions.double(), noise.members, mixture)


class Counter(gymnasium.Env):  # type: ignore[type-arg]
    """Observes its episode's number, the step in it, and the last action.

    Episodes of an odd number truly end at step 4; the others run into the time limit, 6.
    """

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.episode, self.count, self.action = -1, 0, 0.0

    def _observation(self) -> NDArray[np.float32]:
        return np.array([self.episode, self.count, self.action], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.count, self.action = self.episode + 1, 0, 0.0
        return self._observation(), {}

    def step(self, action: NDArray[np.float32]) -> Any:
        self.count += 1
        self.action = float(action[0])
        terminated = self.episode % 2 == 1 and self.count == 4
        return self._observation(), 10.0 * self.episode + self.count, terminated, False, {}


class Opaque(Counter):
    """Holds something that nobody can save."""

    def __init__(self) -> None:
        super().__init__()
        self.engine: Iterator[int] = iter([])


class Seeded(Counter):
    """Begins a count of its own for each seed, as an environment has to."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.episode = seed % 100
        return super().reset(seed=seed)


class Still(Counter):
    """Always observes the same, so that an episode begins with what the one before ended with."""

    def _observation(self) -> NDArray[np.float32]:
        return np.zeros(3, np.float32)


class Unseeded(Seeded):
    """Draws its rewards from numpy's global generator and from one of its own, all its life."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(np.random.randint(1000))  # noqa: NPY002

    def step(self, action: NDArray[np.float32]) -> Any:
        observation, _, *rest = super().step(action)
        return observation, self.rng.normal() + np.random.normal(), *rest  # noqa: NPY002


class Faulty(Seeded):
    """Gives ``value`` for a reward at the 33rd step of its life."""

    value: Any = float("nan")
    steps = 0

    def step(self, action: NDArray[np.float32]) -> Any:
        observation, reward, *rest = super().step(action)
        self.steps += 1
        return observation, self.value if self.steps == 33 else reward, *rest


for _env in (Counter, Opaque, Seeded, Still, Unseeded, Faulty):
    register(_env, max_episode_steps=6)


def tiny_run(
    folder: Path | None, env: str = "Counter-v0", *, resume: bool = False, **keys: Any
) -> OnlineRun:
    config = OnlineConfig(env_name=env, **{**TINY_RUN, **keys})
    return OnlineRun(config, folder, device=DEVICE, threads=1, resume=resume)


def bind_tiny_diffusion(*bindings: str) -> None:
    gin_config.parse(bindings=[*TINY_DIFFUSION, *bindings])


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timed = ("time", "Time", "StepsPerSecond", "train_seconds", "sample_seconds")
    return [{k: v for k, v in record.items() if k not in timed} for record in records]


def logs(folder: Path) -> dict[str, Any]:
    """What a run wrote, apart from times."""
    header, *lines = (folder / "progress.txt").read_text().splitlines()
    names = header.split("\t")
    table = [dict(zip(names, line.split("\t"), strict=True)) for line in lines]
    return {
        "metrics": without_times(read_metrics(folder / "metrics.jsonl")),
        "refills": without_times(read_metrics(folder / "refills.jsonl")),
        "progress": without_times(table),
    }

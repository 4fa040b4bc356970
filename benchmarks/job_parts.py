"""The jobs of ``job_times.py``, and the parts whose rates are measured.

All are on HalfCheetah's rows (17 observation and 6 action columns) and with the settings that the
commands have without flags. Weights and most rows are random: speed does not depend on them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from offline_speed import ALGORITHMS
from online_speed import ENV, Ours, work_of

from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.generation.presets import network_calls
from synther.diffusion.successors import fit_ensemble
from synther.diffusion.training.redq_trainer import REDQTrainer
from synther.diffusion.training.trainer import Trainer
from synther.diffusion.utils import construct_diffusion_model
from synther.envs import Evaluator, make_env
from synther.learning.learner import Dims, StackPolicy
from synther.learning.replay import RowBuffer
from synther.learning.sources import ReplayBuffer
from synther.learning.streams import BlockStream, generators_for
from synther.online.config import OnlineConfig
from synther.runs import gin_config
from synther.runs.runtime import RL_THREADS, keep_freed_memory, threads_for
from synther.transitions import TransitionLayout

DIMS = Dims(17, 6)
LAYOUT = TransitionLayout(*DIMS)
ROWS = 200_000
"""About as many as D4RL's halfcheetah-medium-replay has."""
WARM_UP = 3.0
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """Some of the work of a job.

    Args:
        work: does a little of it, and gives how many units that were.
        units: of the whole job.
        unit: what is counted, in the plural.
        threads: of the CPU; 0 for every core.
        whole: whether one call, without a warm-up, is all that is measured.
    """

    work: Callable[[], float]
    units: float
    unit: str
    threads: int = 0
    whole: bool = False

    def rate(self, seconds: float) -> float:
        """Units a second, of about that many seconds after a warm-up."""
        if not self.whole:
            self._done(WARM_UP)
        done, taken = self._done(0 if self.whole else seconds)
        return done / taken

    def _done(self, seconds: float) -> tuple[float, float]:
        started, done, taken = time.perf_counter(), 0.0, 0.0
        while not done or taken < seconds:
            done += self.work()
            taken = time.perf_counter() - started
        return done, taken


def demo() -> list[Part]:
    """All of ``synther demo``, as it is."""

    def work() -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "synther", "demo", "--folder", f"{folder}/demo"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return 1

    return [Part(work, 1, "demos", whole=True)]


def model() -> list[Part]:
    """Training of the paper's model at half its width."""
    trainer = Trainer(
        _paper_model(), _random_rows(ROWS).numpy(), results_folder=None, device="cpu", seed=0,
        layout=LAYOUT,
    )  # fmt: skip
    return [_training(trainer)]


def samples(sampler: str) -> list[Part]:
    """Samples of that model; all network calls cost the same, so that a few of them are enough."""
    generator = SimpleDiffusionGenerator(LAYOUT, _paper_model().eval(), sampler=sampler)
    return [_sampling(generator, 5_000_000)]


def offline(name: str) -> list[Part]:
    """Updates of an algorithm, and the evaluations of as many updates."""
    keep_freed_memory()  # as the runner does
    algorithm = ALGORITHMS[name]
    config = algorithm.config()
    agent = algorithm.agent(config, DIMS, generators_for(config.seeds, "init"), CPU)
    data = RowBuffer.holding(LAYOUT, _random_rows(ROWS))
    source = ReplayBuffer(data, config.batch_size, generators_for(config.seeds, "data", CPU))
    noise = BlockStream(agent.noise, generators_for(config.seeds, "noise", CPU))
    numbers = iter(range(1, 10**9))

    def work() -> float:
        for step in (next(numbers) for _ in range(10)):
            agent.schedule(step)
            agent.update(source.sample(), noise.next(), agent.variant(step))
        return 10

    evaluations = 1_000_000 // config.eval_freq
    return [
        Part(work, 1_000_000, "updates", RL_THREADS),
        _evaluating(StackPolicy(agent), config.n_episodes, evaluations),
    ]


def online(file: str, *bindings: str) -> list[Part]:
    """Steps of an online run with their updates, its evaluations and its refills."""
    keep_freed_memory()  # as the loop does
    gin_config.parse([f"config/online/{file}.gin"], [f"redq_sac.env_name = '{ENV}'", *bindings])
    config = OnlineConfig()
    steps = config.total_steps
    synthetic = 0.0 if config.disable_diffusion else config.diffusion_sample_ratio
    options = ("utd_ratio", "num_Q", "hidden_sizes", "batch_size", "lr", "precision", "compile")
    stored = _played_rows(min(steps, 20_000))
    agent = Ours(
        DIMS, stored.numpy(), CPU, synthetic=synthetic,
        **{name: getattr(config, name) for name in options},
    )  # fmt: skip
    act_and_learn = work_of(agent)

    def work() -> float:
        act_and_learn(5)
        return 5

    parts = [
        Part(work, steps, "steps", RL_THREADS),
        _evaluating(
            StackPolicy(agent.agent), config.n_evals_per_epoch, steps // config.steps_per_epoch
        ),
    ]
    if refills := 0 if config.disable_diffusion else config.refills_until(steps):
        parts += _refilling(config, refills, stored)
    return parts


def _refilling(config: OnlineConfig, refills: int, stored: torch.Tensor) -> list[Part]:
    """The parts of a run's refills: training, sampling, and the regressions, where there are any,
    of as many rows as there are halfway."""
    layout = TransitionLayout(*DIMS, terminals=config.model_terminals)
    rows = stored[:, : layout.row_dim]
    model = construct_diffusion_model(inputs=rows, layout=layout)
    trainer = REDQTrainer(model, device="cpu", seed=0, model_terminals=config.model_terminals)
    trainer.rows.replace(rows)
    generator = SimpleDiffusionGenerator(layout, trainer.ema.ema_model)
    parts = [_training(trainer, refills), _sampling(generator, refills * config.num_samples)]
    if generator.consistency == "ensemble":
        halfway = LAYOUT.unpack(stored[: (len(stored) + 1) // 2].numpy(), source="played rows")

        def work() -> float:
            fit_ensemble(halfway, seed=0, at_most=2 * trainer.train_num_steps)
            return 1

        parts.append(Part(work, refills, "regressions", threads_for(model), whole=True))
    return parts


def _training(trainer: Trainer, times: int = 1) -> Part:
    def work() -> float:
        trainer.train_on_batch(trainer.rows.draw(trainer.batch_size))
        return 1

    threads = threads_for(trainer.diffusion_model)
    return Part(work, times * trainer.train_num_steps, "training steps", threads)


def _sampling(generator: SimpleDiffusionGenerator, rows: int) -> Part:
    """Its unit is a row with all of its network calls."""
    model = generator.model
    calls = network_calls(model, generator.num_sample_steps)
    batch = torch.randn(min(generator.sample_batch_size, rows), *model.event_shape)

    @torch.no_grad()
    def work() -> float:
        model.preconditioned_network_forward(batch, 1.0)
        return len(batch) / calls

    return Part(work, rows, "rows", threads_for(model))


def _evaluating(policy: StackPolicy, episodes: int, times: int) -> Part:
    def work() -> float:
        with Evaluator(ENV, episodes) as evaluator:
            evaluator.run(policy, [0])
        return 1

    return Part(work, times, "evaluations", RL_THREADS, whole=True)


def _paper_model() -> ElucidatedDiffusion:
    gin_config.parse(["config/resmlp_w1024_denoiser.gin"])
    return construct_diffusion_model(inputs=_random_rows(2_000), layout=LAYOUT)


def _random_rows(count: int) -> torch.Tensor:
    rows = torch.randn(count, LAYOUT.row_dim, generator=torch.Generator().manual_seed(0))
    rows[:, -1] = 0
    return rows


def _played_rows(count: int) -> torch.Tensor:
    """Rows of random actions, which a regression can learn from."""
    env, rows = make_env(ENV), []
    env.action_space.seed(0)
    observation = env.reset(seed=0)[0]
    for _ in range(count):
        action = env.action_space.sample()
        after, reward, terminated, truncated, _ = env.step(action)
        rows.append(np.concatenate([observation, action, [reward], after, [terminated]]))
        observation = env.reset()[0] if terminated or truncated else after
    return torch.from_numpy(np.array(rows, np.float32))


@dataclass(frozen=True)
class Job:
    """A line of the table.

    Args:
        title: of the line.
        parts: makes them; the first one's rate is shown.
    """

    title: str
    parts: Callable[[], list[Part]]


FULL = "redq_sac.epochs = 100"
MILLION = "redq_sac.num_samples = 1000000"
JOBS = {
    "demo": Job("`make demo`, without the installation", demo),
    "model": Job("one model of width 1024: 100 000 steps of batch 256", model),
    "fast": Job("5 million samples of it, `fast`", lambda: samples("fast")),
    "paper": Job("5 million samples of it, `paper`", lambda: samples("paper")),
    "td3_bc": Job("a million updates of TD3+BC", lambda: offline("td3_bc")),
    "iql": Job("a million updates of IQL", lambda: offline("iql")),
    "edac": Job("a million updates of EDAC", lambda: offline("edac")),
    "cql": Job("a million updates of CQL", lambda: offline("cql")),
    "sac_small": Job("online, small: SAC, 15 000 steps", lambda: online("sac_small")),
    "redq_small": Job("online, small: REDQ, 15 000 steps", lambda: online("redq_small")),
    "synther_small": Job(
        "online, small: SynthER, 15 000 steps", lambda: online("sac_synther_openai_small")
    ),
    "sac": Job("online, full: SAC, 100 000 steps", lambda: online("sac", FULL)),
    "redq": Job("online, full: REDQ, 100 000 steps", lambda: online("redq", FULL)),
    "synther": Job(
        "online, full: SynthER, 100 000 steps",
        lambda: online("sac_synther_openai", MILLION, FULL),
    ),
}

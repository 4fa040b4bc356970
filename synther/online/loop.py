"""The online loop: act, store, learn; now and then a new diffusion model; all of it resumable."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from synther.envs import Evaluator, make_env
from synther.envs.snapshots import Snapshots
from synther.files import checkpoint
from synther.learning.learner import Dims
from synther.online.config import OnlineConfig
from synther.online.epoch_statistics import MetricTotals, described
from synther.online.progress_table import ProgressTable, columns_of
from synther.online.q_bias import BiasEvaluation
from synther.online.redq_rlpd_agent import REDQRLPDAgent
from synther.online.refill import SyntheticRefill
from synther.online.run_files import RunState
from synther.runs import loggers
from synther.runs.clock import Clock, Pace
from synther.runs.runtime import RL_THREADS, cpu_threads, keep_freed_memory
from synther.transitions import Transitions

# Numbers that keep the seeds of different purposes apart.
_EPISODES, _EVALUATION, _BIAS, _STREAMS, _LOST = range(5)

console = Console()


class OnlineRun:
    """One run of SAC, REDQ or SynthER.

    Args:
        config: see :class:`OnlineConfig`.
        folder: of everything the run writes; None writes nothing.
        device: of agent, buffers and diffusion model.
        threads: of the CPU while a diffusion model is trained and sampled; 0 for every core. The
            agent's small networks always have one.
        resume: go on from the folder's checkpoint, where there is one.
        adapters: further places for metrics, see :mod:`synther.runs.loggers`.
    """

    def __init__(
        self,
        config: OnlineConfig,
        folder: Path | None,
        *,
        device: torch.device,
        threads: int = 0,
        resume: bool = False,
        adapters: tuple[loggers.Adapter, ...] = (),
    ) -> None:
        self.config, self.device, self.adapters = config, device, adapters
        self.env = make_env(config.env_name)
        self.snapshots = Snapshots(self.env)
        assert self.env.observation_space.shape  # make_env hands out vectors only
        assert self.env.action_space.shape
        dims = Dims(self.env.observation_space.shape[0], self.env.action_space.shape[0])
        limit = self.env.spec.max_episode_steps if self.env.spec else None
        self.max_ep_len = min(config.max_ep_len, limit or config.max_ep_len)
        self.agent = REDQRLPDAgent(
            config.agent(dims),
            dims,
            config.seed,
            device,
            diffusion_buffer_size=1 if config.disable_diffusion else config.diffusion_buffer_size,
            diffusion_sample_ratio=config.diffusion_sample_ratio,
        )
        self.refill = SyntheticRefill(
            seed=config.seed,
            device=device,
            folder=folder and folder / "diffusion",
            num_samples=config.num_samples,
            skip_reward_norm=config.skip_reward_norm,
            model_terminals=config.model_terminals,
            warm_start=config.diffusion_warm_start,
            warm_start_steps=config.diffusion_warm_start_steps,
            threads=threads,
        )
        self.totals = MetricTotals()
        self.observation: NDArray[np.float32]
        self.episode_return: float
        self.episode_length: int
        self.step = self.epochs = self.refills = 0
        self.seconds, self._reseed = 0.0, False
        self.finished: dict[str, list[float]] = {"EpRet": [], "EpLen": []}  # of this epoch
        self.state = None if folder is None else RunState(folder, self)
        self.resumed = bool(resume and self.state and self.state.restore())
        if not self.resumed:
            self._begin_epoch()
            self._begin_episode()

    def train(self) -> None:
        """All the steps that remain."""
        config = self.config
        with contextlib.ExitStack() as stack:
            stack.enter_context(cpu_threads(RL_THREADS))
            if self.device.type == "cpu":
                keep_freed_memory()
            stack.callback(self.env.close)
            self.evaluator = Evaluator(
                config.env_name, config.n_evals_per_epoch, max_episode_steps=self.max_ep_len
            )
            stack.callback(self.evaluator.close)
            self.bias = self._open_bias(stack)
            self._open_logs(stack)
            bar = stack.enter_context(
                loggers.progress_bar(config.total_steps, config.env_name, initial=self.step)
            )
            self.clock = Clock(self.step, self.seconds)
            pace = Pace(config.checkpoint_every)
            self._settle(bar)
            while self.step < config.total_steps:
                self._interact()
                self.totals.add(self.agent.train_block())
                bar.update()
                if self._settle(bar) or pace.is_due():
                    with pace.writing():
                        self._save()

    def _interact(self) -> None:
        """One step of the environment, stored; a new episode where one ended."""
        observation = self.observation
        states = torch.from_numpy(observation).to(self.device).view(1, 1, -1)
        action = self.agent.explore(states)[0, 0].cpu().numpy()
        if not np.isfinite(action).all():  # a simulator fails at it, each in its own way
            raise self._diverged("an action")
        after, reward, terminated, truncated, _ = self.env.step(action)
        # A `done` that is only the time limit says nothing of the state: it is stored as 0.
        row = np.concatenate([observation, action, [reward], after, [terminated]])
        self.agent.replay.insert(torch.from_numpy(row.astype(np.float32))[None])
        self.observation = after
        self.step += 1
        self.episode_return += float(reward)
        self.episode_length += 1
        if terminated or truncated or self.episode_length >= self.max_ep_len:
            self.finished["EpRet"].append(self.episode_return)
            self.finished["EpLen"].append(float(self.episode_length))
            self._begin_episode()

    def begin_other_episode(self) -> None:
        """A fresh start where an episode was lost, from a seed that no other episode has."""
        self._begin_episode(self._seed(_LOST, self.step))

    def _begin_episode(self, seed: int | None = None) -> None:
        """A fresh start; without a seed, the next of the environment's own stream."""
        if self._reseed:
            seed, self._reseed = self._seed(_EPISODES, self.epochs), False
        self.observation = self.env.reset(seed=seed)[0]
        self.episode_return, self.episode_length = 0.0, 0

    def _begin_epoch(self) -> None:
        """With ``reseed_each_epoch`` every stream of random numbers begins anew; an episode that is
        under way goes on."""
        if self.epochs == 0 or self.config.reseed_each_epoch:
            self._reseed = True
            self.agent.reseed(self._seed(_STREAMS, self.epochs))

    def _seed(self, purpose: int, count: int) -> int:
        words = np.random.SeedSequence((self.config.seed, purpose, count)).generate_state(1)
        return int(words[0])

    def _settle(self, bar: Any) -> bool:
        """Do what is due after this many steps; whether that is yet to be saved (a refill is)."""
        if self.refills < self.config.refills_until(self.step):
            self._refill()
        if self.epochs < self.step // self.config.steps_per_epoch:
            bar.set_postfix_str(self._end_epoch(), refresh=False)
            return True
        return False

    def _refill(self) -> None:
        """A new diffusion model on all real rows, and its samples in the synthetic buffer."""
        # Training the model takes long: a run that is killed in it continues inside it.
        self._save()
        with self.clock.paused():
            record = self.refill(self.refills, self.agent.replay, self.agent.synthetic)
        self.refills += 1
        if self.config.print_buffer_stats:
            console.print(record.table)
        if self.refill_logger:
            self.refill_logger.log(record.metrics, self.step)
        self._save()

    def _end_epoch(self) -> str:
        """Evaluate, log, and say the return."""
        rate = self.clock.rate(self.step)
        self._require_finite()
        self.epochs += 1
        with self.clock.paused():
            seed = self._seed(_EVALUATION, self.epochs)
            returns, lengths = self.evaluator.play(self._policy, [seed])
            columns = {
                "Epoch": self.epochs,
                "TotalEnvInteracts": self.step,
                "Time": self.clock.seconds(),
                "StepsPerSecond": rate,
                **described("EpRet", self.finished["EpRet"]),
                "EpLen": float(np.mean(self.finished["EpLen"] or [np.nan])),
                **described("TestEpRet", returns[0]),
                "TestEpLen": float(lengths.mean()),
                **self.totals.take(),
            }
            if self.bias:
                columns |= self.bias(self.agent, self._seed(_BIAS, self.epochs))
        self.finished = {"EpRet": [], "EpLen": []}
        if self.logger and self.table:
            self.logger.log(columns, self.step)
            self.table.add(columns)
        self._begin_epoch()
        return f"return {columns['AverageTestEpRet']:.1f}"

    def _policy(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.agent.act(torch.from_numpy(observations).to(self.device)).cpu().numpy()

    def _save(self) -> None:
        self._require_finite()
        self.seconds = self.clock.seconds()
        if self.state:
            self.state.save()

    def _require_finite(self) -> None:
        """Before an evaluation and a checkpoint: neither is worth anything with a NaN in it."""
        if not checkpoint.all_finite(self.agent.state_dict().values()):
            raise self._diverged("a weight of the agent")

    def _diverged(self, what: str) -> checkpoint.DivergedError:
        return checkpoint.DivergedError(
            f"{what} is not finite, seen at step {self.step}; a lower redq_sac.lr or fp32 may help"
        )

    def _open_bias(self, stack: contextlib.ExitStack) -> BiasEvaluation | None:
        config = self.config
        if not config.evaluate_bias:
            return None
        bias = BiasEvaluation(
            config.env_name, self.max_ep_len, config.n_mc_eval, config.n_mc_cutoff
        )
        stack.callback(bias.close)
        return bias

    def _open_logs(self, stack: contextlib.ExitStack) -> None:
        """``metrics.jsonl`` and ``progress.txt`` (epochs), ``refills.jsonl``; of a run that goes on
        without the records that it will write again."""
        self.logger = self.refill_logger = self.table = None
        if self.state is None:
            return
        folder, config = self.state.folder, self.config
        epoch_pending = self.epochs < self.step // config.steps_per_epoch
        refill_pending = self.refills < config.refills_until(self.step)
        self.logger, self.refill_logger = (
            stack.enter_context(
                loggers.Logger(
                    folder,
                    name,
                    adapters=adapters,
                    resume_from=self.step - pending if self.resumed else None,
                )
            )
            for name, pending, adapters in (
                ("metrics", epoch_pending, self.adapters),
                ("refills", refill_pending, ()),
            )
        )
        earlier = loggers.read_metrics(self.logger.path)
        self.table = ProgressTable(folder / "progress.txt", columns_of(config), earlier)

    def transitions(self) -> tuple[Transitions, NDArray[np.bool_]]:
        """The real replay, oldest row first, and whether each row's episode was cut off after it
        (by the time limit, or because the run was resumed in an environment that cannot be)."""
        replay = self.agent.replay
        order = torch.arange(self.step - len(replay), self.step, device=replay.device)
        rows = replay.gather_rows(order % replay.capacity).cpu().numpy()
        transitions = replay.layout.unpack(rows, metadata={"env_id": self.config.env_name})
        moved = (transitions.next_observations[:-1] != transitions.observations[1:]).any(axis=1)
        ended = np.append(moved, self.episode_length == 0)
        return transitions, ended & (transitions.terminals == 0)

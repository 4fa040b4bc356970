"""The online loop acts, stores, learns, and now and then trains a new diffusion model.

A run goes on from its newest checkpoint as if it had never stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from synther.envs import Evaluator
from synther.files import checkpoint
from synther.learning.evaluation import Evaluations
from synther.learning.learner import StackPolicy, acting_copy
from synther.online.config import OnlineConfig
from synther.online.episodes import Episodes
from synther.online.epoch_statistics import MetricTotals, statistics_of
from synther.online.prompts import Prompting
from synther.online.q_bias import BiasEvaluation
from synther.online.redq_rlpd_agent import REDQRLPDAgent
from synther.online.refill import SyntheticRefill
from synther.online.run_files import RunFiles
from synther.online.run_logs import RunLogs
from synther.runs import loggers
from synther.runs.clock import Clock, Pace
from synther.runs.runtime import RL_THREADS, cpu_threads, float32_products, keep_freed_memory
from synther.transitions import Transitions

_COUNTS = ("step", "epochs", "refills", "seconds")  # of a run, as its checkpoint names them
_EPISODES, _EVALUATION, _BIAS, _STREAMS, _LOST, _PROMPTS = range(6)  # purposes of seeds

console = Console(soft_wrap=True, markup=False)  # a path stays whole, brackets and all


class OnlineRun:
    """One run of SAC, REDQ or SynthER: its agent, its environment, and how far it is.

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
        self.episodes = Episodes(config.env_name, config.max_ep_len, **config.env_arguments)
        dims = self.episodes.dims
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
            env_id=config.env_name,
        )
        self.prompting = Prompting(config, dims, device)
        self.totals = MetricTotals(device)
        self.step = self.epochs = self.refills = 0
        self.seconds, self.reseed_next_episode = 0.0, False
        self.files = None if folder is None else RunFiles(folder)
        self.resumed = bool(resume and self.files and self._restore(self.files))
        if not self.resumed:
            self._begin_epoch()
            self._begin_episode()

    def train(self) -> None:
        """Take all the steps that remain."""
        config = self.config
        with contextlib.ExitStack() as stack:
            stack.enter_context(cpu_threads(RL_THREADS))
            stack.enter_context(float32_products(self.device, config.precision))
            if self.device.type == "cpu":
                keep_freed_memory()
            stack.callback(self.episodes.close)
            how = {"max_episode_steps": self.episodes.max_ep_len, **config.env_arguments}
            evaluator = Evaluator(config.env_name, config.n_evals_per_epoch, **how)
            epochs = config.total_steps // config.steps_per_epoch
            self.evaluations = stack.enter_context(
                Evaluations(evaluator, config.eval_workers, epochs)
            )
            self.bias = self._open_bias(stack)
            self.logs = self._open_logs(stack)
            bar = stack.enter_context(
                loggers.progress_bar(
                    config.total_steps, config.env_name, initial=self.step, work="online"
                )
            )
            self.clock = Clock(self.step, self.seconds)
            pace = Pace(config.checkpoint_every)
            self.episodes.go_on()
            self._do_what_is_due(bar)
            while self.step < config.total_steps:
                self._interact()
                self.totals.add(self.agent.train_block())
                self.prompting.learn(self.agent.replay)
                bar.update()
                if self._do_what_is_due(bar) or pace.is_due():
                    with pace.writing():
                        self._save()

    def _interact(self) -> None:
        """Take one step in the environment and store it; begin a new episode where one ended."""
        states = torch.from_numpy(self.episodes.observation).to(self.device).view(1, 1, -1)
        action = self.agent.explore(states)[0, 0].cpu().numpy()
        if not np.isfinite(action).all():  # a simulator fails at it, each in its own way
            raise self._diverged("an action")
        row, ended = self.episodes.step(action)
        self.agent.replay.insert(torch.from_numpy(row)[None])
        self.step += 1
        if ended:
            self._begin_episode()

    def begin_other_episode(self) -> None:
        """Begin an episode where one was lost, from a seed that no other episode has."""
        self.episodes.lose()
        self._begin_episode(self._seed(_LOST, self.step))

    def _begin_episode(self, seed: int | None = None) -> None:
        """Begin an episode; after :meth:`_begin_epoch` its seed may be the epoch's."""
        if self.reseed_next_episode:
            seed, self.reseed_next_episode = self._seed(_EPISODES, self.epochs), False
        self.episodes.begin(seed)

    def _begin_epoch(self) -> None:
        """With ``reseed_each_epoch`` all streams begin anew; an episode under way goes on."""
        if self.epochs == 0 or self.config.reseed_each_epoch:
            self.reseed_next_episode = True
            self.agent.reseed(self._seed(_STREAMS, self.epochs))

    def _seed(self, purpose: int, count: int) -> int:
        words = np.random.SeedSequence((self.config.seed, purpose, count)).generate_state(1)
        return int(words[0])

    def _refill_is_due(self) -> bool:
        return self.refills < self.config.refills_until(self.step)

    def _epoch_is_due(self) -> bool:
        return self.epochs < self.step // self.config.steps_per_epoch

    def _do_what_is_due(self, bar: Any) -> bool:
        """Refill and end the epoch, where they are due; whether an epoch ended, which is not saved
        yet (a refill saves itself)."""
        if self._refill_is_due():
            self._refill()
        if ended := self._epoch_is_due():
            bar.set_postfix_str(self._end_epoch(), refresh=False)
        return ended

    def _refill(self) -> None:
        """Train a diffusion model on all real rows; put its samples into the synthetic buffer."""
        self._save()  # training takes long: a run that is killed in it continues inside it
        with self.clock.paused():
            prompts = self.prompting(self.agent, self.episodes, self._seed(_PROMPTS, self.refills))
            record = self.refill(self.refills, self.agent.replay, self.agent.synthetic, prompts)
        self.refills += 1
        if self.config.print_buffer_stats:
            console.print(record.table, soft_wrap=False)
        if self.logs:
            self.logs.refill(record.metrics, self.step)
        self._save()

    def _end_epoch(self) -> str:
        """Evaluate, log, and say the return."""
        rate = self.clock.rate(self.step)
        self._require_finite()
        self.epochs += 1
        with self.clock.paused():
            seed = self._seed(_EVALUATION, self.epochs)
            returns, lengths = self.evaluations.play(self._policy(), [seed])
            finished = self.episodes.take_finished()
            columns = {
                "Epoch": self.epochs,
                "TotalEnvInteracts": self.step,
                "Time": self.clock.seconds(),
                "StepsPerSecond": rate,
                **statistics_of("EpRet", finished["EpRet"]),
                "EpLen": float(np.mean(finished["EpLen"] or [np.nan])),
                **statistics_of("TestEpRet", returns[0]),
                "TestEpLen": float(lengths.mean()),
                **self.totals.take(),
                **self.prompting.losses.take(),
            }
            if self.bias:
                columns |= self.bias(self.agent, self._seed(_BIAS, self.epochs))
        if self.logs:
            self.logs.epoch(columns, self.step)
        self._begin_epoch()
        return f"return {columns['AverageTestEpRet']:.1f}"

    def _policy(self) -> StackPolicy:
        """The agent as it acts now; where workers or a GPU ask for one, a copy on the CPU."""
        copied = self.evaluations.workers > 0 or self.device.type != "cpu"
        return StackPolicy(acting_copy(self.agent) if copied else self.agent)

    def _save(self) -> None:
        self._require_finite()
        self.seconds = self.clock.seconds()
        if self.files:
            self.files.save(self.state_dict(), self.agent.replay, self.agent.synthetic)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on, but for the rows of its buffers."""
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            "_reseed": self.reseed_next_episode,
            **self.episodes.state_dict(),
            "totals": self.totals.state_dict(),
            "agent": self.agent.training_state(),
            "generators": self.agent.streams_state(),
            "refill": self.refill.state_dict(),
            **self.prompting.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, but for an episode that could not be saved."""
        for name in _COUNTS:
            setattr(self, name, state[name])
        self.reseed_next_episode = state["_reseed"]
        self.episodes.load_state_dict(state)
        self.totals.load_state_dict(state["totals"])
        self.refill.load_state_dict(state["refill"])
        self.prompting.load_state_dict(state)
        self.agent.load_training_state(state["agent"])
        self.agent.load_streams_state(state["generators"])

    def _restore(self, files: RunFiles) -> bool:
        """Go on from the newest checkpoint; False where there is none.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        path, agent, name = files.latest(), self.agent, self.config.env_name
        if path is not None:
            state = checkpoint.load(path)
            with checkpoint.fitting(path, "not a checkpoint of this run"):
                self.load_state_dict(state)
            files.read_rows(state, agent.replay, agent.synthetic)
            if state["environment"] is None:
                console.print(f"{name} cannot be put back where it stood: a new episode begins")
                self.begin_other_episode()
        files.tidy(self.step, self.refills, agent.replay)
        return path is not None

    def _require_finite(self) -> None:
        """Stop before an evaluation or a checkpoint that a NaN would make worthless."""
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
        limit = self.episodes.max_ep_len
        states, cutoff = config.n_mc_eval, config.n_mc_cutoff
        bias = BiasEvaluation(config.env_name, limit, states, cutoff, **config.env_arguments)
        return stack.enter_context(contextlib.closing(bias))

    def _open_logs(self, stack: contextlib.ExitStack) -> RunLogs | None:
        """The logs; a run that goes on leaves out the records that it will write again."""
        if self.files is None:
            return None
        logs = RunLogs(
            self.files.folder,
            self.config,
            self.adapters,
            last_epoch=self.step - self._epoch_is_due() if self.resumed else None,
            last_refill=self.step - self._refill_is_due() if self.resumed else None,
        )
        return stack.enter_context(contextlib.closing(logs))

    def transitions(self) -> tuple[Transitions, NDArray[np.bool_]]:
        """The real replay, oldest row first, and whether each row's episode was cut off after it
        (by the time limit, or because the run was resumed in an environment that cannot be)."""
        return self.episodes.transitions(self.agent.replay)

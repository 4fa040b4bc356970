"""The one training loop of all offline algorithms: data, updates, evaluation, metrics, resume."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther.corl.shared.agent import Agent
from synther.corl.shared.buffer import RewardNormalizer, StateNormalizer, prepare_replay_buffer
from synther.corl.shared.config import RunConfig
from synther.corl.shared.result import diverged, evaluation_record, on_host, result_of
from synther.corl.shared.run_folder import PREFIX, RunFolder, load_weights
from synther.datasets import load_dataset
from synther.envs import Evaluator, use_backend
from synther.files import checkpoint
from synther.learning.graphs import graphed
from synther.learning.learner import Dims, Metrics
from synther.learning.streams import BlockStream, generators_for
from synther.runs import loggers
from synther.runs.clock import Clock
from synther.runs.commands import naming_last_checkpoint
from synther.runs.runtime import (
    cpu_threads,
    keep_freed_memory,
    resolve_device,
    use_deterministic_kernels,
)
from synther.runs.settings import ConfigError, as_dict
from synther.transitions import Transitions

BuildAgent = Callable[[Any, Dims, list[torch.Generator], torch.device], Agent]
"""(configuration, dims, generators of the weights, device) -> agent."""


def run(config: RunConfig, build: BuildAgent) -> dict[str, Any]:
    """Train as ``config`` says and return what ``result.json`` holds (see ``result_of``).

    With ``resume``, a run that has finished is not trained again: its result is returned.

    Raises:
        ConfigError, TransitionError, CheckpointError: of what it was given.
        DivergedError: a metric or a weight is not finite; no checkpoint is written of that.
    """
    if config.resume and config.checkpoints_path is None:
        raise ConfigError("--resume needs --checkpoints_path, to know what to continue")
    folder = RunFolder.find(config) if config.resume else None
    if folder is not None and (finished := folder.result()) is not None:
        return finished
    if config.deterministic:
        use_deterministic_kernels()
    use_backend(config.backend)
    with cpu_threads(config.threads):
        if folder is not None or config.checkpoints_path is None:
            training = _Run(config, build, folder)
        else:
            folder = RunFolder.create(config)
            try:
                training = _Run(config, build, folder)
            except Exception:
                folder.remove()  # nothing that could be resumed
                raise
        with naming_last_checkpoint(folder.path if folder else None, PREFIX):
            return training.train()


class _Run:
    """One run: what it is made of, and where it stands."""

    def __init__(self, config: RunConfig, build: BuildAgent, folder: RunFolder | None) -> None:
        self.config, self.folder = config, folder
        self.logger: loggers.Logger | None = None
        self.device = _device(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        dataset = _fitting(load_dataset(config.env), config)
        self.env_id = _env_of(config, dataset)
        self.dims = Dims(dataset.observation_dim, dataset.action_dim)
        self.evaluator = self._open_evaluator()
        self.states = StateNormalizer.of(dataset) if config.normalize else None
        rewards = RewardNormalizer.of(dataset, self.env_id) if config.normalize_reward else None
        self.source = prepare_replay_buffer(
            dataset,
            config.diffusion,
            batch_size=config.batch_size,
            seeds=config.seeds,
            device=self.device,
            state_normalizer=self.states,
            reward_normalizer=rewards,
            cache=folder.path / "generated_rows.pt" if folder else None,
        )
        self.agent = build(config, self.dims, generators_for(config.seeds, "init"), self.device)
        noise = generators_for(config.seeds, "noise", self.device)
        self.noise = BlockStream(self.agent.noise, noise)
        graph = config.compile == "cudagraph"
        self.update = graphed(self.agent) if graph else self.agent.update
        self.step, self.seconds = 0, 0.0
        self.evaluations: list[dict[str, Any]] = []
        self._restore()

    def _restore(self) -> None:
        """Continue from this run's latest checkpoint, or start from the weights of another's."""
        latest = self.folder.latest() if self.folder else None
        if latest is not None:
            state = checkpoint.load(latest, self.device)
            with checkpoint.fitting(latest, "not a checkpoint of this run"):
                self.step, self.seconds = state["step"], state["seconds"]
                self.evaluations = state["evaluations"]
                for name in ("source", "noise"):
                    getattr(self, name).load_state_dict(state[name])
                self.agent.load_training_state(state["agent"])
        elif self.config.load_model is not None:
            load_weights(self.agent, self.config.load_model)

    def train(self) -> dict[str, Any]:
        """All the updates that remain, then the result."""
        config = self.config
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.evaluator)
            if self.folder:
                self.logger = stack.enter_context(self._open_logger())
            bar = stack.enter_context(
                loggers.progress_bar(
                    config.max_timesteps, config.name, initial=self.step, unit="update"
                )
            )
            clock = Clock(self.step, self.seconds)
            while self.step < config.max_timesteps:
                self.step += 1
                batch, noise = self.source.sample(), self.noise.next()
                metrics = self.update(batch, noise, self.agent.form(self.step))
                bar.update()
                if self.step % config.log_every == 0:
                    numbers = on_host(metrics, config.seeds, self.step)  # waits for the device
                    rate = clock.rate(self.step)
                    self._log({**numbers, "updates_per_second": rate, **self.source.metrics(rate)})
                if self.step % config.eval_freq == 0 or self.step == config.max_timesteps:
                    with clock.paused():
                        self._check_finite(metrics)
                        bar.set_postfix_str(self._evaluate())
                    self.seconds = clock.seconds()
                    self._save()
        result = result_of(config, self.env_id, self.evaluations, self.seconds)
        if self.folder:
            self.folder.finish(result)
        return result

    def _check_finite(self, metrics: Metrics) -> None:
        """Before an evaluation and its checkpoint: neither is worth anything with a NaN in it."""
        on_host(metrics, self.config.seeds, self.step)
        if not checkpoint.all_finite(self.agent.state_dict().values()):
            raise diverged("a weight", self.step)

    def _evaluate(self) -> str:
        """Play the episodes, record the returns, and say their mean."""
        returns = self.evaluator.run(self._policy, self.config.eval_seeds)
        record = evaluation_record(self.step, returns, self.env_id)
        self.evaluations.append(record)
        values = {f"eval_{key}": np.asarray(record[key]) for key in record if key != "step"}
        self._log(values)
        key = "score" if "score" in record else "return"
        return f"{key} {np.mean(record[key]):.1f}"

    @torch.no_grad()
    def _policy(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        states = torch.from_numpy(observations).to(self.device)
        if self.states is not None:
            states = self.states(states)
        return self.agent.act(states).cpu().numpy()

    def _save(self) -> None:
        if self.folder is None:
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "evaluations": self.evaluations,
            "config": as_dict(self.config),
            "agent": self.agent.training_state(),
            "source": self.source.state_dict(),
            "noise": self.noise.state_dict(),
        }
        self.folder.save(self.step, state, keep_all=self.config.save_checkpoints)

    def _log(self, values: dict[str, Any]) -> None:
        """One record; with more seeds than one, a key a seed: ``critic_loss/s3``."""
        if self.logger is None:
            return
        flat: dict[str, Any] = {}
        for key, value in values.items():
            if np.ndim(value) == 0 or len(value) == 1:
                flat[key] = float(np.squeeze(value))
            else:
                pairs = zip(self.config.seeds, value, strict=True)
                flat.update({f"{key}/s{seed}": float(each) for seed, each in pairs})
        self.logger.log(flat, self.step)

    def _open_evaluator(self) -> Evaluator:
        config = self.config
        evaluator = Evaluator(self.env_id, config.n_episodes, config.num_seeds)
        if (evaluator.observation_dim, evaluator.action_dim) != self.dims:
            raise ConfigError(
                f"the environment {self.env_id} has {evaluator.observation_dim} observation and "
                f"{evaluator.action_dim} action columns, the data set {config.env} has "
                f"{self.dims.state} and {self.dims.action}; choose another with --eval_env"
            )
        return evaluator

    def _open_logger(self) -> loggers.Logger:
        assert self.folder is not None
        config = self.config
        path = self.folder.path
        adapters = loggers.open_adapters(path, as_dict(config), config)
        return loggers.Logger(path, adapters=adapters, resume_from=self.step or None)


def _device(name: str) -> torch.device:
    try:
        return resolve_device(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _fitting(dataset: Transitions, config: RunConfig) -> Transitions:
    if len(dataset) > config.buffer_size:
        raise ConfigError(
            f"{config.env} has {len(dataset)} rows, buffer_size is {config.buffer_size}; raise it"
        )
    return dataset


def _env_of(config: RunConfig, dataset: Transitions) -> str:
    env_id = config.eval_env or dataset.metadata.get("env_id")
    if not env_id:
        raise ConfigError(
            f"{config.env} does not say which environment it comes from; name one with --eval_env"
        )
    return str(env_id)

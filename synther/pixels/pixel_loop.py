"""The training loop of both stages: updates, evaluation from pictures, metrics, resume."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.envs.pixels import PixelEnv, PixelEvaluator, PixelSettings
from synther.files import atomic, checkpoint
from synther.files.checkpoint import DivergedError
from synther.learning.learner import Metrics
from synther.learning.streams import BlockStream, generators_for
from synther.pixels.config import PixelConfig
from synther.pixels.pixel_folder import PREFIX
from synther.runs import loggers
from synther.runs.clock import Clock
from synther.runs.runtime import cpu_threads, keep_freed_memory
from synther.runs.settings import as_dict


class PixelAgent(Protocol):
    """What the loop trains: :class:`DrQBC` from pictures, :class:`LatentAgent` from latents."""

    def act(self, images: NDArray) -> NDArray: ...

    def noise(self, generator: torch.Generator, updates: int) -> tuple[Tensor, ...]: ...

    def update(self, batch: Any, noise: tuple[Tensor, ...], step: int) -> Metrics: ...

    def state_dict(self) -> dict[str, Any]: ...

    def training_state(self) -> dict[str, Any]: ...

    def load_training_state(self, state: dict[str, Any]) -> None: ...


class Source(Protocol):
    """What hands out batches, and can be stopped and continued."""

    def sample(self) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Evaluate = Callable[[PixelAgent], NDArray]
"""Undiscounted returns ``[episodes]`` of an agent."""


def evaluation(config: PixelConfig, settings: PixelSettings, action_dim: int) -> Evaluate:
    """Plays ``n_episodes`` episodes that depend on the seed alone.

    The environments live as long as an evaluation: idle renderers hold memory. A first picture is
    drawn at once, so that nothing is trained in vain.

    Raises:
        RenderingError: nothing can draw here.
        ValueError: an environment with other actions than the data's.
    """
    env = PixelEnv(settings)
    env.reset(seed=config.seed)
    env.close()
    if env.action_dim != action_dim:
        raise ValueError(
            f"{settings.env_id} has {env.action_dim} action columns, the data {action_dim}; "
            "choose another environment with --env"
        )

    def evaluate(agent: PixelAgent) -> NDArray:
        with contextlib.closing(PixelEvaluator(settings, config.n_episodes)) as evaluator:
            return evaluator.run(agent.act, config.seed)

    return evaluate


class PixelRun:
    """One run: agent, batches and noise, and where it stands.

    Args:
        config: of the run.
        agent: its networks and optimisers are on ``device``.
        source: of batches.
        evaluate: see :func:`evaluation`.
        device: where noise is drawn.
        about: what a checkpoint says besides, so that an agent loads by itself.
    """

    def __init__(
        self,
        config: PixelConfig,
        agent: PixelAgent,
        source: Source,
        evaluate: Evaluate,
        *,
        device: torch.device,
        about: Mapping[str, Any],
    ) -> None:
        self.config, self.agent, self.source, self.evaluate = config, agent, source, evaluate
        self.about = dict(about)
        self.noise = BlockStream(agent.noise, generators_for([config.seed], "noise", device))
        self.step, self.seconds = 0, 0.0
        self.evaluations: list[dict[str, Any]] = []
        self.logger: loggers.Logger | None = None
        if device.type == "cpu":
            keep_freed_memory()
        self._begin(device)

    def _begin(self, device: torch.device) -> None:
        """Continue from the latest checkpoint, or begin the folder."""
        folder = self.config.path
        if folder is None:
            return
        latest = checkpoint.latest(folder, PREFIX) if self.config.resume else None
        if latest is not None:
            state = checkpoint.load(latest, device)
            self.step, self.seconds = state["step"], state["seconds"]
            self.evaluations = state["evaluations"]
            for name in ("source", "noise"):
                getattr(self, name).load_state_dict(state[name])
            self.agent.load_training_state(state["agent"])
            return
        if checkpoint.is_used(folder) and not self.config.resume:
            checkpoint.set_aside(folder)
        atomic.write_json(folder / "config.json", as_dict(self.config))

    def train(self) -> dict[str, Any]:
        """All the steps that remain, then the result: ``steps seconds returns return_mean
        evaluations``."""
        config = self.config
        with contextlib.ExitStack() as stack:
            stack.enter_context(cpu_threads(config.threads))
            if config.path:
                adapters = loggers.open_adapters(config.path, as_dict(config), config)
                self.logger = stack.enter_context(
                    loggers.Logger(config.path, adapters=adapters, resume_from=self.step or None)
                )
            name = config.path.name if config.path else config.algo
            bar = stack.enter_context(
                loggers.progress_bar(config.max_timesteps, name, initial=self.step)
            )
            clock = Clock(self.step, self.seconds)
            metrics: Metrics = {}
            while self.step < config.max_timesteps:
                self.step += 1
                bar.update()
                if self.step % config.update_every == 0:
                    batch, noise = self.source.sample(), self.noise.next()
                    metrics = self.agent.update(batch, noise, self.step)
                last = self.step == config.max_timesteps
                if metrics and (self.step % config.log_every == 0 or last):
                    self._log(metrics, clock.rate(self.step))
                evaluate = last or bool(config.eval_freq and self.step % config.eval_freq == 0)
                save = last or self.step % config.checkpoint_every == 0
                if evaluate or save:
                    self._require_finite(metrics)
                if evaluate:
                    with clock.paused():
                        bar.set_postfix_str(self._evaluate())
                if save:
                    self.seconds = clock.seconds()
                    self._save()
        return self._finish()

    def _log(self, metrics: Metrics, rate: float) -> None:
        values = {key: float(value.squeeze()) for key, value in metrics.items()}
        values["updates_per_second"] = rate / self.config.update_every
        if self.logger:
            self.logger.log(values, self.step)

    def _evaluate(self) -> str:
        returns = self.evaluate(self.agent)
        record = {"eval_return": float(returns.mean()), "eval_return_std": float(returns.std())}
        self.evaluations.append({"step": self.step, "returns": [float(each) for each in returns]})
        if self.logger:
            self.logger.log(record, self.step)
        return f"return {record['eval_return']:.1f}"

    def _require_finite(self, metrics: Metrics) -> None:
        """Before an evaluation and a checkpoint: neither is worth anything with a NaN in it."""
        if not checkpoint.all_finite([*metrics.values(), *self.agent.state_dict().values()]):
            raise DivergedError(
                f"a loss or a weight is not finite, seen at step {self.step}; a lower "
                "--learning_rate or fp32 may help"
            )

    def _save(self) -> None:
        folder = self.config.path
        if folder is None:
            return
        state = {
            **self.about,
            "step": self.step,
            "seconds": self.seconds,
            "evaluations": self.evaluations,
            "config": as_dict(self.config),
            "agent": self.agent.training_state(),
            "source": self.source.state_dict(),
            "noise": self.noise.state_dict(),
        }
        checkpoint.save(folder / f"{PREFIX}-{self.step}.pt", state)
        for earlier, path in checkpoint.steps(folder, PREFIX).items():
            if earlier < self.step:
                path.unlink()

    def _finish(self) -> dict[str, Any]:
        returns = self.evaluations[-1]["returns"]
        result = {
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "returns": returns,
            "return_mean": sum(returns) / len(returns),
            "evaluations": self.evaluations,
        }
        if self.config.path:
            atomic.write_json(self.config.path / "result.json", result)
        return result

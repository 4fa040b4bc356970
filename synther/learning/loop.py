"""The one training loop of agents that learn from a fixed source of batches.

It trains the four offline algorithms on transitions, and DrQ+BC on pictures and on latents: a step
draws a batch and the update's random numbers, and lets the agent take its gradient steps; now and
then the loop logs, evaluates, and writes a checkpoint, from which a run continues bit for bit. What
is evaluated and how the run's folder is claimed are the caller's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther.datasets.digest import require_same_digests
from synther.files import checkpoint
from synther.files.checkpoint import DivergedError
from synther.learning.evaluation import Pending
from synther.learning.graphs import Stride, graphed
from synther.learning.journal import Evaluation, Journal, Record
from synther.learning.learner import Agent, Metrics
from synther.learning.sources import BatchSource, RowSource
from synther.learning.streams import BlockStream, generators_for
from synther.learning.timetable import Timetable
from synther.runs import loggers
from synther.runs.clock import Clock
from synther.runs.folder import PREFIX
from synther.runs.runtime import (
    CompileMode,
    Precision,
    float32_products,
    keep_freed_memory,
)


class Training:
    """One run of the loop: its agent, where its batches and noise come from, how far it is.

    Args:
        agent: its networks and optimisers are on ``device``.
        source: of batches.
        evaluate: plays episodes with the agent as it is; while they are under way elsewhere,
            training goes on.
        timetable: see :class:`Timetable`.
        seeds: of the agent's members, which name their metrics.
        device: where noise is drawn.
        config: the run's settings, flat plain values, for checkpoints and log services.
        logs: which log services take the metrics too.
        name: of the progress bar, and ``unit``, of its steps.
        folder: takes ``metrics.jsonl`` and checkpoints; None writes nothing.
        keep_all: keep every checkpoint, not the newest alone.
        about: what a checkpoint says besides, so that an agent loads by itself.
        data: what it learns from, by the name of its setting -> digest of the content; a run goes
            on with the data it began with.
        compile: ``cudagraph`` replays each update as a CUDA graph, ``max`` many updates as one; the
            agent itself knows whether its losses are compiled.
        precision: of the products of the run, see ``runtime.float32_products``.
    """

    def __init__(
        self,
        agent: Agent,
        source: BatchSource,
        evaluate: Callable[[], Evaluation | Pending[Evaluation]],
        timetable: Timetable,
        *,
        seeds: Sequence[int],
        device: torch.device,
        config: Mapping[str, Any],
        logs: loggers.LogSettings,
        name: str,
        unit: str = "step",
        folder: Path | None = None,
        keep_all: bool = False,
        about: Mapping[str, Any] | None = None,
        data: Mapping[str, str] | None = None,
        compile: CompileMode = "off",
        precision: Precision = "fp32",
    ) -> None:
        self.agent, self.source, self.evaluate, self.timetable = agent, source, evaluate, timetable
        self.seeds, self.device = seeds, device
        self.config, self.logs, self.name, self.unit = dict(config), logs, name, unit
        self.folder, self.keep_all, self.about = folder, keep_all, dict(about or {})
        self.data = dict(data or {})
        self.noise = BlockStream(agent.noise, generators_for(seeds, "noise", device))
        self.update = graphed(agent) if compile == "cudagraph" else agent.update
        self._stride: Stride | None = None
        if compile == "max":
            assert isinstance(source, RowSource), "a stride is of updates on rows"
            self._stride = Stride(agent, source, self.noise)
        self.precision = precision
        self.step, self.seconds = 0, 0.0
        self.evaluations: list[dict[str, Any]] = []
        self.journal = Journal(self._write, self._note)
        self._logger: loggers.Logger | None = None
        self._bar: Any = None
        self._repeat: list[Record] | None = None  # records of a step that is evaluated again
        if device.type == "cpu":
            keep_freed_memory()

    def run(self) -> None:
        """Take all the steps that remain.

        Raises:
            DivergedError: a metric or a weight is not finite; no checkpoint is written of that.
        """
        due, table = self.timetable.is_due, self.timetable
        with contextlib.ExitStack() as stack:
            stack.enter_context(float32_products(self.device, self.precision))
            self._logger = self._open_logger(stack)
            bar = self._bar = stack.enter_context(
                loggers.progress_bar(
                    table.total, self.name, initial=self.step, unit=self.unit, work="offline"
                )
            )
            clock = Clock(self.step, self.seconds)
            self._evaluate_again()
            metrics: Metrics = {}
            while self.step < table.total:
                before = self.step
                metrics = self._advance() or metrics
                bar.update(self.step - before)
                if metrics and due(table.log_every, self.step):
                    record = {**self._on_host(metrics), **self._speeds(clock)}
                    self.journal.log(self._flat(record), self.step)
                    self.journal.settle(wait=False)
                evaluates = due(table.evaluate_every, self.step)
                saves = due(table.save_every, self.step)
                if evaluates or saves:
                    self._require_finite(metrics)
                    with clock.paused():
                        self.journal.settle(wait=True)  # one of an earlier step
                        if evaluates:
                            self.journal.begin(self.evaluate(), self.step)
                        if self.step == table.total:
                            self.journal.settle(wait=True)
                if saves:
                    self.seconds = clock.seconds()
                    self._save()

    def _advance(self) -> Metrics:
        """Take the next step, or a stride of them; the metrics of the last update, if there was
        one."""
        if self._stride is not None:
            stop = min(self.step + self._stride.longest(), self.timetable.next_due(self.step))
            steps = range(self.step + 1, stop + 1)
            self.step = stop
            return self._stride(steps)
        self.step += 1
        if self.step % self.timetable.update_every:
            return {}
        self.agent.schedule(self.step)
        batch, noise = self.source.sample(), self.noise.next()
        return self.update(batch, noise, self.agent.variant(self.step))

    def _speeds(self, clock: Clock) -> dict[str, float]:
        rate = clock.rate(self.step) / self.timetable.update_every
        return {"updates_per_second": rate, **self.source.metrics(rate)}

    def _open_logger(self, stack: contextlib.ExitStack) -> loggers.Logger | None:
        if self.folder is None:
            return None
        adapters = loggers.open_adapters(self.folder, self.config, self.logs)
        kept = None if self.step == 0 else self.step - (self._repeat is not None)
        return stack.enter_context(loggers.Logger(self.folder, adapters=adapters, resume_from=kept))

    def _flat(self, values: Record) -> dict[str, float]:
        """Numbers by key; with more seeds than one, a key a seed: ``critic_loss/s3``."""
        flat: dict[str, float] = {}
        for key, value in values.items():
            if np.size(value) == 1:
                flat[key] = float(np.squeeze(value))
            else:
                pairs = zip(self.seeds, value, strict=True)
                flat.update({f"{key}/s{seed}": float(each) for seed, each in pairs})
        return flat

    def _write(self, record: Record, step: int) -> None:
        if self._logger is not None:
            self._logger.log(self._flat(record), step)

    def _note(self, found: Evaluation, step: int) -> None:
        """Keep an evaluation's record, and show its summary."""
        self.evaluations.append({"step": step, **found.record})
        self._bar.set_postfix_str(found.summary)

    def _evaluate_again(self) -> None:
        """Evaluate at the step of the checkpoint, whose evaluation was under way as it was written.

        The log begins anew at that step, since the evaluation may be in it or not.
        """
        if self._repeat is not None:
            for record in self._repeat:
                self.journal.log(record, self.step)
            self.journal.begin(self.evaluate(), self.step)
            self._repeat = None

    def _on_host(self, metrics: Metrics) -> dict[str, NDArray[np.float32]]:
        """All metrics, each ``[S]``, in one transfer, for which the host waits."""
        if not metrics:
            return {}
        values = torch.stack(list(metrics.values())).cpu().numpy()
        for name, each in zip(metrics, values, strict=True):
            if not np.isfinite(each).all():
                which = np.asarray(self.seeds)[~np.isfinite(each)]
                raise self._diverged(f"{name} of seed {', '.join(map(str, which))}")
        return dict(zip(metrics, values, strict=True))

    def _require_finite(self, metrics: Metrics) -> None:
        """Before an evaluation and a checkpoint: neither is worth anything with a NaN in it."""
        self._on_host(metrics)
        if not checkpoint.all_finite(self.agent.state_dict().values()):
            raise self._diverged("a weight")

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(
            f"{what} is not finite, seen at step {self.step}; "
            "a lower learning rate or fp32 may help"
        )

    def _save(self) -> None:
        """Write a checkpoint; then remove the earlier ones, unless all are kept."""
        if self.folder is None:
            return
        checkpoint.save(self.folder / f"{PREFIX}-{self.step}.pt", self.state_dict())
        if not self.keep_all:
            for earlier, path in checkpoint.steps(self.folder, PREFIX).items():
                if earlier < self.step:
                    path.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on, and what describes the agent."""
        unsettled = self.journal.unsettled(self.step)
        return {
            **self.about,
            "step": self.step,
            "seconds": self.seconds,
            "evaluations": self.evaluations,
            **({} if unsettled is None else {"unsettled": unsettled}),
            "config": self.config,
            "data": self.data,
            "agent": self.agent.training_state(),
            "source": self.source.state_dict(),
            "noise": self.noise.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            CheckpointError: what the run learned from had another content then.
        """
        require_same_digests(state.get("data", {}), self.data)
        self.step, self.seconds = state["step"], state["seconds"]
        self.evaluations = state["evaluations"]
        self._repeat = state.get("unsettled")
        self.source.load_state_dict(state["source"])
        self.noise.load_state_dict(state["noise"])
        self.agent.load_training_state(state["agent"])

    def resume(self) -> bool:
        """Continue from the newest checkpoint in the folder; False where there is none.

        Raises:
            CheckpointError: it is damaged, or not one of this run.
        """
        latest = None if self.folder is None else checkpoint.latest(self.folder, PREFIX)
        if latest is None:
            return False
        state = checkpoint.load(latest, self.device)
        with checkpoint.fitting(latest, "not a checkpoint of this run"):
            self.load_state_dict(state)
        return True

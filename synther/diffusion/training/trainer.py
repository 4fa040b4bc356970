"""Training of the diffusion model."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import gin
import torch
from ema_pytorch import EMA
from torch import Tensor

from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.optimisation import adamw, clipped_step
from synther.diffusion.training import step as training_state
from synther.diffusion.training.row_source import RowSource
from synther.diffusion.training.step import RunFiles
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError, DivergedError
from synther.runs import runtime
from synther.runs.clock import Pace
from synther.runs.loggers import Logger
from synther.runs.processes import Processes, accelerator_for
from synther.transitions import TransitionLayout

SMALL_DATA_SET_ROWS = 800_000


class TrainingDivergedError(DivergedError):
    """The loss or its gradient stopped being a number."""


@gin.configurable
class Trainer:
    """Trains the model on rows, keeps the average of its weights (EMA), writes checkpoints.

    On a CPU the products want every core: run it under ``synther.runs.runtime.cpu_threads(0)``.

    Several processes (see ``processes.py``) train one model: each computes the gradient of its
    share of every batch, and all take the same step. Batches and noise are those of one process, so
    that their number changes the rounding of sums and nothing else. Each has to call the same
    methods, with the same rows; the first writes the files.

    Args:
        diffusion_model: moved to the device and trained in place.
        dataset: rows ``[N, D]`` in data space: tensor, array, or a ``TensorDataset`` of one; None
            where ``rows.replace`` brings them.
        train_batch_size: rows a step, of all processes together, where N is 800 000 or more;
            ``small_batch_size`` where it is less.
        train_num_steps: length of the run, and of the learning rate's schedule.
        train_lr: learning rate at the start.
        lr_scheduler: ``cosine`` to 0 over the run, or None for a constant rate.
        adam_betas, weight_decay: of AdamW; biases and norms never decay.
        gradient_accumulate_every: batches a step.
        ema_update_every, ema_decay: of the average; it starts at step 100 and its decay rises to
            ``ema_decay`` as ``1 - (1 + k)^(-2/3)``.
        max_grad_norm: gradients are scaled down to this norm.
        save_and_sample_every: steps between checkpoints; None for only one, at the end.
        results_folder: where ``model-{step}.pt`` goes; None writes none.
        resume_every: seconds between resume points (more, where writing one is slow): the newest
            is ``resume-{step}.pt``, which is gone once the run is done. None writes none.
        precision: ``bf16`` takes products in bfloat16; weights and sums stay float32.
        split_batches: False makes that the rows of each process: with more of them a step has
            more rows, and the run is another one.
        max_checkpoints: the newest that are kept; None keeps all.
        log_every: steps between log records, which are where the host waits for the device.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: of batches and noise; None draws one from torch's global generator.
        layout: of the rows, written into checkpoints.
        logger: takes ``loss``, ``gradient_norm``, ``learning_rate`` and ``steps_per_second``.
    """

    def __init__(
        self,
        diffusion_model: ElucidatedDiffusion,
        dataset: Any,
        train_batch_size: int = 1024,
        small_batch_size: int = 256,
        train_num_steps: int = 100_000,
        train_lr: float = 3e-4,
        lr_scheduler: Literal["cosine"] | None = "cosine",
        adam_betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        gradient_accumulate_every: int = 1,
        ema_update_every: int = 10,
        ema_decay: float = 0.995,
        max_grad_norm: float = 1.0,
        save_and_sample_every: int | None = 10_000,
        results_folder: str | os.PathLike[str] | None = "./results",
        resume_every: float | None = 30.0,
        precision: runtime.Precision = "fp32",
        split_batches: bool = True,
        max_checkpoints: int | None = None,
        log_every: int = 100,
        device: str = "auto",
        seed: int | None = None,
        layout: TransitionLayout | None = None,
        logger: Logger | None = None,
    ) -> None:
        if lr_scheduler not in ("cosine", None):
            raise ValueError(f"lr_scheduler '{lr_scheduler}': expected 'cosine' or None")
        self.accelerator = accelerator_for(runtime.resolve_device(device))
        self.processes = Processes(self.accelerator)
        self.device = self.accelerator.device
        self.step = 0
        self.train_num_steps = train_num_steps
        self.train_lr, self.lr_scheduler = train_lr, lr_scheduler
        self.gradient_accumulate_every = gradient_accumulate_every
        self.max_grad_norm = max_grad_norm
        self.save_and_sample_every = save_and_sample_every
        self.results_folder = None if results_folder is None else Path(results_folder)
        self.files = self.results_folder and RunFiles(self.results_folder, max_checkpoints)
        self.pace = Pace(resume_every) if resume_every else None
        self.precision = precision
        self.log_every = log_every
        self.layout, self.logger = layout, logger

        self.diffusion_model = diffusion_model.to(self.device)
        # Where there are several processes, this gives all of them the first one's weights.
        self.model = self.accelerator.prepare_model(diffusion_model)
        if self.processes.count > 1:
            self._settle_order_of_sums()
        # Its step counter stays on the host, where reading it at each step makes nobody wait.
        self.ema = EMA(
            diffusion_model, beta=ema_decay, update_every=ema_update_every, use_foreach=True
        )
        self.optimizer = adamw(diffusion_model, train_lr, adam_betas, weight_decay)
        seed = int(torch.randint(2**62, ())) if seed is None else seed
        seed = self.processes.decided_by_first(seed) % 2**63
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rows = RowSource(dataset, self.device, seed, self.processes.all_agree)
        batch_size = train_batch_size if len(self.rows) >= SMALL_DATA_SET_ROWS else small_batch_size
        self.batch_size = batch_size * (1 if split_batches else self.processes.count)
        self.processes.share(self.batch_size)  # before the first step, not in it
        self.totals = torch.zeros(2, device=self.device)  # of losses and gradient norms
        self.steps_in_totals = 0

    def _settle_order_of_sums(self) -> None:
        """After its first backward pass DDP lays the gradients out in the order in which they came,
        and sums them in another order from then on. That pass is made here, for a run that resumes
        to have the order of the one that it continues."""
        row = torch.zeros(1, *self.diffusion_model.event_shape, device=self.device)
        sigma = torch.ones(1, device=self.device)
        self.accelerator.backward(self.model(row, sigma=sigma, noise=row))
        self.model.zero_grad(set_to_none=True)

    def learning_rate(self, step: int) -> float:
        """Of the update that follows ``step`` updates; a function of the step, without state."""
        if self.lr_scheduler is None:
            return self.train_lr
        done = min(step / self.train_num_steps, 1.0)
        return self.train_lr * (1 + math.cos(math.pi * done)) / 2

    def train(self, num_steps: int | None = None) -> None:
        """Train from wherever the run stands, with checkpoints and a bar.

        Args:
            num_steps: how many steps, at most up to ``train_num_steps``, where the learning rate's
                schedule ends; None: up to there.

        Raises:
            TrainingDivergedError: the loss is not finite; the message names the last checkpoint.
        """
        stop = self.train_num_steps if num_steps is None else self.step + num_steps
        if stop > self.train_num_steps:
            raise ValueError(
                f"{num_steps} steps more than the {self.step} done: the run and its learning rate "
                f"end at train_num_steps = {self.train_num_steps}; set that higher"
            )
        with self.processes.progress_bar(stop, "diffusion", initial=self.step) as bar:
            started, start_step = time.perf_counter(), self.step
            while self.step < stop:
                self._update(
                    [self.rows.draw(self.batch_size) for _ in range(self.gradient_accumulate_every)]
                )
                bar.update()
                is_last = self.step == stop
                if is_last or self.step % self.log_every == 0:
                    metrics = self._metrics()
                    bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
                    rate = (self.step - start_step) / (time.perf_counter() - started)
                    started, start_step = time.perf_counter(), self.step
                    if self.logger is not None:
                        self.logger.log({**metrics, "steps_per_second": rate}, self.step)
                every = self.save_and_sample_every
                if is_last or (every and self.step % every == 0):
                    self.save(self.step)
                elif self._resume_point_is_due():
                    self._save_resume_point()
        if self.files and self.processes.is_first:
            self.files.remove_resume_points()

    def train_on_batch(self, batch: Tensor) -> Tensor:
        """One step on rows ``[B, D]`` in data space; the loss, a scalar on the device."""
        return self._update([batch.to(self.device, non_blocking=True)])

    def _update(self, batches: Sequence[Tensor]) -> Tensor:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches, 1):
            # The processes' gradients are averaged once a step, with the last batch.
            is_last = number == len(batches)
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                part = self._loss(batch, 1 / len(batches))
                self.accelerator.backward(part)
            loss += part.detach()
        norm = clipped_step(self.optimizer, self.max_grad_norm, self.learning_rate(self.step))
        self.ema.update()
        self.step += 1
        self.totals += torch.stack([loss, norm])
        self.steps_in_totals += 1
        return loss

    def _loss(self, batch: Tensor, weight: float) -> Tensor:
        """``weight`` times the loss on this process's share of a batch ``[B, D]``, such that the
        mean over the processes is that of the whole batch."""
        share = self.processes.share(len(batch))
        sigma = self.diffusion_model.noise_distribution(len(batch), self.generator)
        noise = torch.randn(batch.shape, device=self.device, generator=self.generator)
        rows = batch[share]
        with runtime.autocast(self.device, self.precision):
            loss = self.model(rows, sigma=sigma[share], noise=noise[share])
        return loss * (weight * len(rows) * self.processes.count / len(batch))

    def _metrics(self) -> dict[str, float]:
        """Means since the last call; here the host waits for the device."""
        totals = self._check_finite().mean(dim=0)
        loss, norm = (totals / max(self.steps_in_totals, 1)).tolist()
        self.totals.zero_()
        self.steps_in_totals = 0
        rate = self.learning_rate(self.step)
        return {"loss": loss, "gradient_norm": norm, "learning_rate": rate}

    def _check_finite(self, *, weights: bool = False) -> Tensor:
        """The totals of all processes ``[processes, 2]``; all of them stop where one diverged."""
        totals = self.processes.gather(self.totals)
        if checkpoint.all_finite([totals, *(self.diffusion_model.parameters() if weights else ())]):
            return totals
        last = self.files.furthest() if self.files else None
        raise TrainingDivergedError(
            f"the loss, its gradient or a weight is not finite, seen at step {self.step}"
            + (f"; last good checkpoint: {last}" if last else "")
            + "; a lower learning rate or fp32 may help"
        )

    def save(self, step: int | None = None) -> Path | None:
        """Write ``model-{step}.pt``, whole or not at all; None where no folder was given, and on
        every process but the first."""
        totals = self._check_finite(weights=True)
        if not (self.files and self.processes.is_first):
            return None
        step = self.step if step is None else step
        return self.files.save_checkpoint(step, training_state.capture(self, totals))

    def _resume_point_is_due(self) -> bool:
        if self.pace is None or self.processes.count == 1:
            return self.pace is not None and self.pace.is_due()
        # The first process's clock decides, and is asked where everyone waits anyway.
        is_asked = self.step % self.log_every == 0
        return is_asked and self.processes.decided_by_first(self.pace.is_due())

    def _save_resume_point(self) -> None:
        assert self.pace is not None
        with self.pace.writing():
            totals = self._check_finite(weights=True)
            if self.files and self.processes.is_first:
                self.files.save_resume_point(self.step, training_state.capture(self, totals))

    def load_latest(self) -> Path | None:
        """Continue from the furthest checkpoint or resume point in the results folder; None, and
        step 0, where there is neither."""
        path = self.processes.decided_by_first(self.files.furthest() if self.files else None)
        if path is not None:
            self.load(path)
        return path

    def load(self, step_or_path: int | str | os.PathLike[str]) -> None:
        """Continue from a checkpoint: a step in the results folder, or a path.

        On a CPU what follows is equal, bit for bit, to a run that was never interrupted; with
        another number of processes it is equal up to the rounding of sums. A file of the 2023
        release lacks the generators' states: weights, optimiser, EMA and step are taken.

        Raises:
            CheckpointError: no such file, damaged, or of another model.
        """
        path = Path(step_or_path) if not isinstance(step_or_path, int) else self._path(step_or_path)
        payload = checkpoint.load(path)
        with checkpoint.fitting(path, "not a checkpoint of this trainer"):
            training_state.restore(self, payload, str(path))

    def _path(self, step: int) -> Path:
        if self.results_folder is None:
            raise CheckpointError(f"step {step}: the trainer has no results_folder to look in")
        return self.results_folder / f"model-{step}.pt"

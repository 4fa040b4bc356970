"""The trainer loops over steps: batches go in, log records and checkpoints come out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import gin
import torch
from ema_pytorch import EMA
from torch import Tensor

from synther.diffusion import model_io
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.training.row_source import RowSource
from synther.diffusion.training.run_files import RunFiles
from synther.diffusion.training.step import (
    COND_DROPOUT,
    TrainingDivergedError,
    TrainingStep,
    load_generator,
)
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.ranges import Beta, Count, Dropout, NotNegative, Positive, Seed, Share, checked
from synther.runs import runtime
from synther.runs.clock import Pace
from synther.runs.loggers import Logger
from synther.runs.processes import Processes, accelerator_for
from synther.transitions import TransitionLayout

Finish = Callable[[ElucidatedDiffusion, Tensor], None]
"""Takes the averaged model, which it may change, and the rows ``[N, D]``."""

STEPS = 100_000
"""The length of a run where nothing else is said."""
SMALL_DATA_SET_ROWS = 800_000
"""Data sets with fewer rows take the small batch."""


@gin.configurable
class Trainer:
    """Trains the model on rows, keeps the average of its weights (EMA), writes checkpoints.

    On a CPU the products want every core: run it under ``synther.runs.runtime.cpu_threads(0)``.

    Several processes (see ``processes.py``) train one model: each computes the gradient of its
    share of every batch, and all take the same step. Batches and noise are those of one process, so
    that their number changes the rounding of sums and nothing else. Each has to call the same
    methods, with the same rows; the first writes the files.

    Args:
        diffusion_model: the model, which is moved to the device and trained in place.
        dataset: the rows ``[N, D]`` in data space: a tensor, an array, or a ``TensorDataset`` of
            one; None where ``rows.replace`` brings them. Of a model with a condition, each row has
            its value in further columns at the end (``model.condition.raw(values)``).
        train_batch_size: rows a step, of all processes together, where N is 800 000 or more;
            ``small_batch_size`` where it is less.
        small_batch_size: rows a step where N is less than 800 000.
        train_num_steps: the length of the run, and of the learning rate's schedule.
        train_lr: the learning rate at the start.
        lr_scheduler: ``cosine`` to 0 over the run, or None for a constant rate.
        adam_betas, weight_decay: settings of AdamW; biases and norms never decay.
        gradient_accumulate_every: the number of batches in a step.
        ema_update_every, ema_decay: the average is updated every so many steps; it starts at step
            100 and its decay rises to ``ema_decay`` as ``1 - (1 + k)^(-2/3)``.
        max_grad_norm: gradients are scaled down to this norm.
        save_and_sample_every: steps between checkpoints; None for only one, at the end.
        results_folder: the folder for ``model-{step}.pt``; None writes none.
        resume_every: seconds between resume points (more, where writing one is slow): the newest
            is ``resume-{step}.pt``, which is gone once the run is done. None writes none.
        precision: ``bf16`` takes products in bfloat16, ``tf32`` those of a GPU in TF32; weights
            and sums stay float32.
        split_batches: whether processes share a batch. False gives each process a batch of that
            size: a step then has more rows with more processes, and the run is another one.
        max_checkpoints: how many checkpoints are kept, the newest; None keeps all.
        log_every: steps between log records, which are where the host waits for the device.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: the seed of batches and noise; None draws one from torch's global generator.
        layout: which columns of the rows hold what, which the model then keeps and checkpoints
            hold; None leaves what the model says.
        logger: takes ``loss``, ``gradient_norm``, ``learning_rate`` and ``steps_per_second``.
        cond_dropout: of a model with a condition, the share of the rows that are trained without;
            more than 0, or rows as they come, and guidance, would be of an untrained network.
        compile: how a step is computed: ``default`` through torch.compile, ``cudagraph`` as a CUDA
            graph, ``max`` as both.
    """

    @checked
    def __init__(
        self,
        diffusion_model: ElucidatedDiffusion,
        dataset: Any,
        train_batch_size: Count = 1024,
        small_batch_size: Count = 256,
        train_num_steps: Count = STEPS,
        train_lr: NotNegative = 3e-4,
        lr_scheduler: Literal["cosine"] | None = "cosine",
        adam_betas: tuple[Beta, Beta] = (0.9, 0.99),
        weight_decay: NotNegative = 0.0,
        gradient_accumulate_every: Count = 1,
        ema_update_every: Count = 10,
        ema_decay: Share = 0.995,
        max_grad_norm: Positive = 1.0,
        save_and_sample_every: Count | None = 10_000,
        results_folder: str | os.PathLike[str] | None = "./results",
        resume_every: NotNegative | None = 30.0,
        precision: runtime.Precision = "fp32",
        split_batches: bool = True,
        max_checkpoints: Count | None = None,
        log_every: Count = 100,
        device: str = "auto",
        seed: Seed | None = None,
        layout: TransitionLayout | None = None,
        logger: Logger | None = None,
        cond_dropout: Dropout = COND_DROPOUT,
        compile: runtime.CompileMode = "off",
    ) -> None:
        self.accelerator = accelerator_for(runtime.resolve_device(device))
        self.processes = Processes(self.accelerator)
        self.device = self.accelerator.device
        if self.processes.count == 1:  # several do not capture
            runtime.say_what_waits(self.device, compile, f"{type(self).__name__}.compile")
        seed = int(torch.randint(2**62, ())) if seed is None else seed
        seed = self.processes.decided_by_first(seed) % 2**63
        if layout is not None:
            diffusion_model.layout = layout  # before the average of its weights becomes a copy
        self.training_step = TrainingStep(
            diffusion_model,
            self.accelerator,
            seed=seed,
            num_steps=train_num_steps,
            learning_rate=train_lr,
            schedule=lr_scheduler,
            betas=adam_betas,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            ema_update_every=ema_update_every,
            ema_decay=ema_decay,
            precision=precision,
            cond_dropout=cond_dropout,
            compile=compile,
        )
        self.gradient_accumulate_every = gradient_accumulate_every
        self.save_and_sample_every = save_and_sample_every
        self.results_folder = None if results_folder is None else Path(results_folder)
        self.files = self.results_folder and RunFiles(self.results_folder, max_checkpoints)
        self.pace = Pace(resume_every) if resume_every else None
        self.log_every = log_every
        self.logger = logger
        self.rows = RowSource(dataset, self.device, seed, self.processes.all_agree)
        batch_size = train_batch_size if len(self.rows) >= SMALL_DATA_SET_ROWS else small_batch_size
        self.batch_size = batch_size * (1 if split_batches else self.processes.count)
        self.processes.share(self.batch_size)  # before the first step, not in it

    @property
    def diffusion_model(self) -> ElucidatedDiffusion:
        """The model in training; samples come from the one in :attr:`ema`."""
        return self.training_step.diffusion_model

    @property
    def ema(self) -> EMA:
        """The average of the weights; ``ema.ema_model`` is the model to sample from."""
        return self.training_step.ema

    @property
    def step(self) -> int:
        """The number of updates made so far."""
        return self.training_step.step

    @property
    def train_num_steps(self) -> int:
        """The length of the run, and of the learning rate's schedule."""
        return self.training_step.num_steps

    def train(self, num_steps: int | None = None, finish: Finish | None = None) -> None:
        """Train from wherever the run stands, with checkpoints and a bar.

        Args:
            num_steps: how many steps, at most up to ``train_num_steps``, where the learning rate's
                schedule ends; None: up to there.
            finish: is called after the last step with the averaged model and the rows, before the
                last checkpoint is written.

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
                batches = [
                    self.rows.draw(self.batch_size) for _ in range(self.gradient_accumulate_every)
                ]
                self.training_step.update(batches)
                bar.update()
                is_last = self.step == stop
                if is_last or self.step % self.log_every == 0:
                    self._require_finite()
                    metrics = self.training_step.metrics()
                    bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
                    rate = (self.step - start_step) / (time.perf_counter() - started)
                    started, start_step = time.perf_counter(), self.step
                    if self.logger is not None:
                        self.logger.log({**metrics, "steps_per_second": rate}, self.step)
                if is_last and finish is not None:
                    finish(self.ema.ema_model, self.rows.rows)
                every = self.save_and_sample_every
                if is_last or (every and self.step % every == 0):
                    self.save(self.step)
                elif self._resume_point_is_due():
                    self._save_resume_point()
        if self.files and self.processes.is_first:
            self.files.remove_resume_points()

    def train_on_batch(self, batch: Tensor) -> Tensor:
        """Take one step on rows ``[B, D]`` in data space; the loss, a scalar on the device."""
        return self.training_step.update([batch.to(self.device, non_blocking=True)])

    def save(self, step: int | None = None) -> Path | None:
        """Write ``model-{step}.pt``, whole or not at all, and return its path; None where no folder
        was given, and on every process but the first.

        Raises:
            TrainingDivergedError: a number in it is not finite; nothing is written.
        """
        self._require_finite(weights=True)
        state = self.state_dict()
        if not (self.files and self.processes.is_first):
            return None
        return self.files.save_checkpoint(self.step if step is None else step, state)

    def state_dict(self) -> dict[str, Any]:
        """The contents of ``model-{step}.pt``: the state that the rest of the run depends on, and
        the model's description. Every process has to call it."""
        return {
            **self.training_step.state_dict(),
            "layout": model_io.layout_to_plain(self.diffusion_model.layout),
            **model_io.provenance_to_plain(self.diffusion_model),
            "config": model_io.describe(self.diffusion_model),
            "data_order": self.rows.generator.get_state(),
        }

    def _require_finite(self, *, weights: bool = False) -> None:
        """Raise :class:`TrainingDivergedError` on every process where one of them diverged."""
        if not self.training_step.is_finite(weights=weights):
            last = self.files.furthest() if self.files else None
            raise TrainingDivergedError(
                f"the loss, its gradient or a weight is not finite, seen at step {self.step}"
                + (f"; last good checkpoint: {last}" if last else "")
                + "; a lower learning rate or fp32 may help"
            )

    def _resume_point_is_due(self) -> bool:
        if self.pace is None or self.processes.count == 1:
            return self.pace is not None and self.pace.is_due()
        # The first process's clock decides, and is asked where everyone waits anyway.
        is_asked = self.step % self.log_every == 0
        return is_asked and self.processes.decided_by_first(self.pace.is_due())

    def _save_resume_point(self) -> None:
        assert self.pace is not None
        with self.pace.writing():
            self._require_finite(weights=True)
            state = self.state_dict()
            if self.files and self.processes.is_first:
                self.files.save_resume_point(self.step, state)

    def load_latest(self) -> Path | None:
        """Continue from the furthest checkpoint or resume point in the results folder, and return
        its path; where there is neither, return None and stay at step 0."""
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
        if not isinstance(step_or_path, int):
            path = Path(step_or_path)
        elif self.files:
            path = self.files.checkpoint_path(step_or_path)
        else:
            raise CheckpointError(f"step {step_or_path}: the trainer has no results_folder")
        payload = checkpoint.load(path)
        with checkpoint.fitting(path, "not a checkpoint of this trainer"):
            self.load_state_dict(payload)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave; see :meth:`load`."""
        self.training_step.load_state_dict(state)
        load_generator(self.rows.generator, state.get("data_order"))

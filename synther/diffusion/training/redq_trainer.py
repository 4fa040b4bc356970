"""This trainer fits a diffusion model to the replay buffer of an online agent."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Literal

import gin
import torch
from torch import Tensor

from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.training.step import COND_DROPOUT
from synther.diffusion.training.trainer import Finish, Trainer
from synther.learning.replay import RowBuffer
from synther.ranges import Beta, Count, Dropout, NotNegative, Positive, Seed, Share, checked
from synther.runs import runtime
from synther.runs.loggers import Logger
from synther.transitions import TransitionLayout


def modelled_layout(buffer: RowBuffer, model_terminals: bool) -> TransitionLayout:
    """The layout of the model's rows: the buffer's, without the last column where terminals are not
    modelled."""
    return replace(buffer.layout, terminals=model_terminals)


def modelled_rows(buffer: RowBuffer, model_terminals: bool) -> Tensor:
    """All rows that the buffer holds, ``[size, D]``, as the model sees them; nothing is copied."""
    return buffer.valid_rows()[:, : modelled_layout(buffer, model_terminals).row_dim]


@gin.configurable
class REDQTrainer(Trainer):
    """A :class:`Trainer` whose rows are those that a replay buffer holds, drawn where they are.

    Args:
        train_batch_size: the rows of a step, however many the buffer holds.
        model_terminals: whether the model's rows have the buffer's terminal column.
        results_folder: None, the default, writes no files.
        save_and_sample_every: None, the default, writes no model but the finished one.
        diffusion_model and the rest: the arguments of :class:`Trainer`; ``Trainer.*`` in gin files
            does not reach this class.
    """

    @checked
    def __init__(
        self,
        diffusion_model: ElucidatedDiffusion,
        train_batch_size: Count = 256,
        train_num_steps: Count = 100_000,
        train_lr: NotNegative = 3e-4,
        lr_scheduler: Literal["cosine"] | None = "cosine",
        adam_betas: tuple[Beta, Beta] = (0.9, 0.99),
        weight_decay: NotNegative = 0.0,
        gradient_accumulate_every: Count = 1,
        ema_update_every: Count = 10,
        ema_decay: Share = 0.995,
        max_grad_norm: Positive = 1.0,
        save_and_sample_every: Count | None = None,
        results_folder: str | os.PathLike[str] | None = None,
        resume_every: NotNegative | None = 30.0,
        precision: runtime.Precision = "fp32",
        split_batches: bool = True,
        max_checkpoints: Count | None = None,
        log_every: Count = 100,
        device: str = "auto",
        seed: Seed | None = None,
        model_terminals: bool = False,
        logger: Logger | None = None,
        cond_dropout: Dropout = COND_DROPOUT,
        compile: runtime.CompileMode = "off",
    ) -> None:
        super().__init__(
            diffusion_model,
            dataset=None,
            train_batch_size=train_batch_size,
            small_batch_size=train_batch_size,
            train_num_steps=train_num_steps,
            train_lr=train_lr,
            lr_scheduler=lr_scheduler,
            adam_betas=adam_betas,
            weight_decay=weight_decay,
            gradient_accumulate_every=gradient_accumulate_every,
            ema_update_every=ema_update_every,
            ema_decay=ema_decay,
            max_grad_norm=max_grad_norm,
            save_and_sample_every=save_and_sample_every,
            results_folder=results_folder,
            resume_every=resume_every,
            precision=precision,
            split_batches=split_batches,
            max_checkpoints=max_checkpoints,
            log_every=log_every,
            device=device,
            seed=seed,
            layout=None,
            logger=logger,
            cond_dropout=cond_dropout,
            compile=compile,
        )
        self.model_terminals = model_terminals

    def update_normalizer(self, buffer: RowBuffer) -> None:
        """Fit the model's normaliser, and that of its average, to all rows that the buffer holds,
        also after it has wrapped around."""
        rows = self._rows_of(buffer)
        self.diffusion_model.normalizer.reset(rows)
        # Otherwise the average, which samples come from, would approach the new statistics slowly.
        fitted = self.diffusion_model.normalizer.state_dict()
        self.ema.ema_model.normalizer.load_state_dict(fitted)
        self.training_step.capture_anew()

    def train_from_redq_buffer(
        self,
        buffer: RowBuffer,
        num_steps: int | None = None,
        conditions: Tensor | None = None,
        finish: Finish | None = None,
    ) -> None:
        """Train on uniform batches of the rows that the buffer holds; see :meth:`Trainer.train`.

        Args:
            buffer: the rows.
            num_steps: how many steps.
            conditions: of a model with a condition, its columns for each row, ``[size, columns]``.
            finish: see :meth:`Trainer.train`.

        Raises:
            ValueError: an empty buffer, or rows of another width than the model's.
        """
        rows = self._rows_of(buffer)
        self.rows.replace(rows if conditions is None else torch.cat([rows, conditions], dim=1))
        for model in (self.diffusion_model, self.ema.ema_model):
            model.layout = modelled_layout(buffer, self.model_terminals)
        self.train(num_steps, finish)

    def _rows_of(self, buffer: RowBuffer) -> Tensor:
        rows = modelled_rows(buffer, self.model_terminals)
        (width,) = self.diffusion_model.event_shape
        if rows.shape[1] != width:
            raise ValueError(
                f"the model's rows have {width} columns, the buffer's have {rows.shape[1]} with "
                f"model_terminals = {self.model_terminals}"
            )
        return rows

"""Training of the diffusion model."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import gin
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from ema_pytorch import EMA
from torch import Tensor, nn

from synther import checkpoint, runtime
from synther.checkpoint import CheckpointError
from synther.diffusion import model_io
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.row_source import RowSource
from synther.loggers import Logger, progress_bar
from synther.transitions import TransitionLayout

SMALL_DATA_SET_ROWS = 800_000


class TrainingDivergedError(RuntimeError):
    """The loss or its gradient stopped being a number."""


@gin.configurable
class Trainer:
    """Trains the model on rows, keeps the average of its weights (EMA), writes checkpoints.

    On a CPU the products want every core: run it under ``synther.runtime.cpu_threads(0)``.

    Args:
        diffusion_model: moved to the device and trained in place.
        dataset: rows ``[N, D]`` in data space: tensor, array, or a ``TensorDataset`` of one.
        train_batch_size: rows a step where N is 800 000 or more, ``small_batch_size`` where it is
            less.
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
        precision: ``bf16`` takes products in bfloat16; weights and sums stay float32.
        split_batches: with several processes, share a batch among them instead of one each.
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
        self.accelerator = _accelerator(runtime.resolve_device(device))
        self.device = self.accelerator.device
        self.step = 0
        self.train_num_steps = train_num_steps
        self.train_lr, self.lr_scheduler = train_lr, lr_scheduler
        self.gradient_accumulate_every = gradient_accumulate_every
        self.max_grad_norm = max_grad_norm
        self.save_and_sample_every = save_and_sample_every
        self.results_folder = None if results_folder is None else Path(results_folder)
        self.precision = precision
        self.max_checkpoints, self.log_every = max_checkpoints, log_every
        self.layout, self.logger = layout, logger

        self.diffusion_model = diffusion_model.to(self.device)
        # Its step counter stays on the host, where reading it at each step makes nobody wait.
        self.ema = EMA(
            diffusion_model, beta=ema_decay, update_every=ema_update_every, use_foreach=True
        )
        self.model = self.accelerator.prepare_model(diffusion_model)
        self.optimizer = _adamw(diffusion_model, train_lr, adam_betas, weight_decay)
        self.trained = [p for p in diffusion_model.parameters() if p.requires_grad]
        seed = int(torch.randint(2**62, ())) if seed is None else seed
        seed = (seed + self.accelerator.process_index) % 2**63
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rows = RowSource(dataset, self.device, seed)
        batch_size = train_batch_size if len(self.rows) >= SMALL_DATA_SET_ROWS else small_batch_size
        self.batch_size = batch_size // (self.accelerator.num_processes if split_batches else 1)
        self._totals = torch.zeros(2, device=self.device)  # of losses and gradient norms
        self._steps_in_totals = 0

    def learning_rate(self, step: int) -> float:
        """Of the update that follows ``step`` updates; a function of the step, without state."""
        if self.lr_scheduler is None:
            return self.train_lr
        done = min(step / self.train_num_steps, 1.0)
        return self.train_lr * (1 + math.cos(math.pi * done)) / 2

    def train(self) -> None:
        """Train up to ``train_num_steps`` from wherever the run stands, with checkpoints and a bar.

        Raises:
            TrainingDivergedError: the loss is not finite; the message names the last checkpoint.
        """
        with progress_bar(self.train_num_steps, "diffusion", initial=self.step) as bar:
            started, start_step = time.perf_counter(), self.step
            while self.step < self.train_num_steps:
                self._update(
                    self.rows.draw(self.batch_size) for _ in range(self.gradient_accumulate_every)
                )
                bar.update()
                is_last = self.step == self.train_num_steps
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

    def train_on_batch(self, batch: Tensor) -> Tensor:
        """One step on rows ``[B, D]`` in data space; the loss, a scalar on the device."""
        return self._update([batch.to(self.device, non_blocking=True)])

    def _update(self, batches: Iterable[Tensor]) -> Tensor:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        for batch in batches:
            with runtime.autocast(self.device, self.precision):
                part = self.model(batch, generator=self.generator)
            part = part / self.gradient_accumulate_every
            self.accelerator.backward(part)
            loss += part.detach()
        norm = nn.utils.clip_grad_norm_(self.trained, self.max_grad_norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        self.optimizer.step()
        self.ema.update()
        self.step += 1
        self._totals += torch.stack([loss, norm])
        self._steps_in_totals += 1
        return loss

    def _metrics(self) -> dict[str, float]:
        """Means since the last call; here the host waits for the device."""
        self._check_finite()
        loss, norm = (self._totals / max(self._steps_in_totals, 1)).tolist()
        self._totals.zero_()
        self._steps_in_totals = 0
        rate = self.learning_rate(self.step)
        return {"loss": loss, "gradient_norm": norm, "learning_rate": rate}

    def _check_finite(self) -> None:
        if bool(self._totals.isfinite().all()):
            return
        folder = self.results_folder
        last = None if folder is None else checkpoint.latest(folder, "model")
        raise TrainingDivergedError(
            f"the loss or its gradient is not finite, seen at step {self.step}; last good "
            f"checkpoint: {last or 'none was written'}; a lower learning rate or fp32 may help"
        )

    def save(self, step: int | None = None) -> Path | None:
        """Write ``model-{step}.pt``, whole or not at all; None where no folder was given, and on
        every process but the first."""
        self._check_finite()
        if self.results_folder is None or not self.accelerator.is_main_process:
            return None
        step = self.step if step is None else step
        path = checkpoint.save(self.results_folder / f"model-{step}.pt", self._payload())
        if self.max_checkpoints is not None:
            written = checkpoint.steps(self.results_folder, "model")
            for old in list(written.values())[: -self.max_checkpoints]:
                if old != path:
                    old.unlink()
        return path

    def _payload(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self.diffusion_model.state_dict(),
            "opt": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "scaler": None,
            # What follows is ours; files of the 2023 release end above.
            "layout": model_io.layout_to_plain(self.layout),
            "config": model_io.describe(self.diffusion_model),
            "scheduler": {"name": self.lr_scheduler, "total_steps": self.train_num_steps},
            "rng": self.generator.get_state(),
            "data_order": self.rows.generator.get_state(),
            "metrics": {"totals": self._totals, "steps": self._steps_in_totals},
        }

    def load(self, step_or_path: int | str | os.PathLike[str]) -> None:
        """Continue from a checkpoint: a step in the results folder, or a path.

        On a CPU what follows is equal, bit for bit, to a run that was never interrupted. A file of
        the 2023 release lacks the generators' states: weights, optimiser, EMA and step are taken.

        Raises:
            CheckpointError: no such file, damaged, or of another model.
        """
        path = Path(step_or_path) if not isinstance(step_or_path, int) else self._path(step_or_path)
        payload = checkpoint.load(path)
        if missing := [key for key in ("step", "model", "opt", "ema") if key not in payload]:
            raise CheckpointError(f"{path}: has no '{missing[0]}', expected a training checkpoint")
        model_io.load_weights(self.diffusion_model, payload["model"], str(path))
        ema = {
            key: value.reshape(self.ema.get_buffer(key).shape) if "." not in key else value
            for key, value in payload["ema"].items()
        }
        model_io.load_weights(self.ema, ema, str(path))
        self._load_optimizer(payload["opt"], path)
        self.step = int(payload["step"])
        generators = {"rng": self.generator, "data_order": self.rows.generator}
        for key, generator in generators.items():
            state = payload.get(key)
            # A state fits its kind of device only; moving a run to another one starts new streams.
            if state is not None and state.shape == generator.get_state().shape:
                generator.set_state(state)
        if "metrics" in payload:
            self._totals.copy_(payload["metrics"]["totals"])
            self._steps_in_totals = payload["metrics"]["steps"]

    def _path(self, step: int) -> Path:
        if self.results_folder is None:
            raise CheckpointError(f"step {step}: the trainer has no results_folder to look in")
        return self.results_folder / f"model-{step}.pt"

    def _load_optimizer(self, saved: dict[str, Any], path: Path) -> None:
        ours = self.optimizer.state_dict()["param_groups"]
        sizes = [
            [len(group["params"]) for group in groups] for groups in (saved["param_groups"], ours)
        ]
        if sizes[0] != sizes[1]:
            raise CheckpointError(f"{path}: its optimiser is of another network ({sizes})")
        # Moments from the file, settings from this run: a file may come from other hardware.
        self.optimizer.load_state_dict({"state": saved["state"], "param_groups": ours})


def _adamw(
    model: nn.Module, rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """One pass over all parameters; biases and norms do not decay.

    The grouping and its order, frozen parameters included, are part of the checkpoint format.
    """
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
        for parameter in module.parameters()
    }
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        exempt = name.endswith("bias") or id(parameter) in norms
        (others if exempt else decaying).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def _accelerator(device: torch.device) -> Accelerator:
    # accelerate keeps one state a process; a second trainer may ask for another kind of device.
    held = PartialState._shared_state.get("device")
    if held is not None and held.type != device.type:
        AcceleratorState._reset_state(reset_partial_state=True)
    if device.index is not None:
        torch.cuda.set_device(device)
    # Precision is runtime.autocast's: accelerate would fix it for the whole process.
    return Accelerator(cpu=device.type == "cpu", mixed_precision="no")

"""A training step updates the diffusion model, and owns the state that the next step needs.

:meth:`TrainingStep.update` is the whole step: the model's loss (EDM, arXiv 2206.00364, equation 8)
on this process's share of each batch, its gradient, AdamW with clipped gradients and a cosine
learning rate, and the moving average of the weights (EMA) that samples come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from ema_pytorch import EMA
from torch import Tensor

from synther.diffusion import model_io
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.training.optimizer import adamw, clipped_step, load_optimizer
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError, DivergedError
from synther.learning.graphs import Replayed
from synther.learning.streams import restore_generators
from synther.runs import runtime
from synther.runs.precision import settled
from synther.runs.processes import Processes
from synther.runs.settings import ConfigError

if TYPE_CHECKING:  # accelerate takes seconds to import
    from accelerate import Accelerator


COND_DROPOUT = 0.25
"""Share of the rows that a conditional model is trained without their condition."""


class TrainingDivergedError(DivergedError):
    """The loss, its gradient or a weight is no longer a finite number."""


class _Drawn(NamedTuple):
    """A batch ``[B, D]``, its noise levels ``[B]``, unit noise ``[B, D]`` and conditions ``[B, C]``
    or None."""

    rows: Tensor
    sigma: Tensor
    noise: Tensor
    cond: Tensor | None


class TrainingStep:
    """Updates a model in place, one call a step.

    Several processes train one model: each computes the gradient of its share of every batch, and
    all take the same step. Noise is drawn for the whole batch by each of them, so that their number
    changes the rounding of sums and nothing else. All of them have to make the same calls.

    Args:
        diffusion_model: the model, moved to the accelerator's device and trained in place.
        accelerator: the device, and the other processes, if there are any.
        seed: the seed of noise levels and noise, the same on every process.
        num_steps: the length of the learning rate's schedule.
        learning_rate: the learning rate at the start.
        schedule: ``cosine`` to 0 after ``num_steps``, or None for a constant rate.
        betas, weight_decay: AdamW's; biases and norms never decay.
        max_grad_norm: gradients are scaled down to this norm.
        ema_update_every, ema_decay: steps between updates of the average, and its final decay.
        precision: ``bf16`` takes products in bfloat16, ``tf32`` those of a GPU in TF32; weights
            and sums stay float32.
        cond_dropout: of a model with a condition, the share of the rows that are trained without.
        compile: ``default`` puts the loss through torch.compile, ``cudagraph`` replays a step as a
            CUDA graph, ``max`` does both.

    Raises:
        ConfigError: CUDA graphs on another device, or of several processes.
    """

    def __init__(
        self,
        diffusion_model: ElucidatedDiffusion,
        accelerator: Accelerator,
        *,
        seed: int,
        num_steps: int,
        learning_rate: float,
        schedule: Literal["cosine"] | None,
        betas: tuple[float, float],
        weight_decay: float,
        max_grad_norm: float,
        ema_update_every: int,
        ema_decay: float,
        precision: runtime.Precision,
        cond_dropout: float = COND_DROPOUT,
        compile: runtime.CompileMode = "off",
    ) -> None:
        self.accelerator, self.processes = accelerator, Processes(accelerator)
        self.device = accelerator.device
        self.num_steps, self.schedule = num_steps, schedule
        self.initial_rate, self.max_grad_norm = learning_rate, max_grad_norm
        self.precision = settled(precision, self.device)
        if not 0 < cond_dropout < 1:
            raise ValueError(f"cond_dropout is {cond_dropout}, expected more than 0, less than 1")
        self.cond_dropout = cond_dropout
        self.diffusion_model = diffusion_model.to(self.device)
        # Where there are several processes, this gives all of them the first one's weights.
        self.model = accelerator.prepare_model(diffusion_model)
        if self.processes.count > 1:
            self._rebuild_gradient_buckets()
        if compile in runtime.COMPILED:
            self.model = torch.compile(self.model)
        self._replayed = self._graphed() if compile in runtime.CAPTURED else None
        # Its step counter stays on the host, where reading it at each step makes nobody wait.
        self.ema = EMA(
            diffusion_model, beta=ema_decay, update_every=ema_update_every, use_foreach=True
        )
        capturable = self._replayed is not None
        self.optimizer = adamw(diffusion_model, learning_rate, betas, weight_decay, capturable)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.step = 0  # updates made so far
        self.totals = torch.zeros(2, device=self.device)  # sums of losses and of gradient norms
        self.steps_in_totals = 0

    def update(self, batches: Sequence[Tensor]) -> Tensor:
        """Take one step on the mean loss of ``batches`` and return that loss, a scalar on the
        device. The host does not wait for the device.

        Args:
            batches: each ``[B, D]`` in data space, with the columns of the model's condition, where
                it has one, after them: ``[B, D + columns]``.
        """
        self.model.train()
        drawn, rate = [self._draw(batch) for batch in batches], self.learning_rate(self.step)
        if self._replayed is None:
            loss = self._take(drawn, rate)
        else:
            inputs = drawn, torch.full((), rate, device=self.device)
            loss = self._replayed(inputs, tuple(map(len, batches))).clone()
        self.ema.update()
        self.step += 1
        self.steps_in_totals += 1
        return loss

    def _take(self, drawn: Sequence[_Drawn], rate: float | Tensor) -> Tensor:
        """Gradient, its norm, and the optimiser's step; the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        with runtime.float32_products(self.device, self.precision):
            for number, each in enumerate(drawn, 1):
                # The processes' gradients are averaged once a step, with the last batch.
                is_last = number == len(drawn)
                with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                    part = self._loss(each, 1 / len(drawn))
                    self.accelerator.backward(part)
                loss += part.detach()
        norm = clipped_step(self.optimizer, self.max_grad_norm, rate)
        self.totals += torch.stack([loss, norm])
        return loss

    def _graphed(self) -> Replayed[Tensor]:
        """:meth:`_take` as a CUDA graph, whose learning rate is a tensor."""
        if self.processes.count > 1:
            raise ConfigError(
                f"{self.processes.count} processes do not replay a step as a CUDA graph; use "
                "compile off or default"
            )
        return Replayed(lambda inputs, _: self._take(*inputs), self.device)

    def _draw(self, batch: Tensor) -> _Drawn:
        """The random numbers of a whole batch, beside its rows."""
        batch, cond = self._conditions(batch)
        sigma = self.diffusion_model.noise_distribution(len(batch), self.generator)
        noise = torch.randn(batch.shape, device=self.device, generator=self.generator)
        return _Drawn(batch, sigma, noise, cond)

    def _loss(self, drawn: _Drawn, weight: float) -> Tensor:
        """``weight`` times the loss on this process's share of a batch, scaled such that the mean
        over the processes is that of the whole batch."""
        size = len(drawn.rows)
        share = self.processes.share(size)
        rows, sigma, noise = drawn.rows[share], drawn.sigma[share], drawn.noise[share]
        asked = {} if drawn.cond is None else {"cond": drawn.cond[share]}
        with runtime.autocast(self.device, self.precision):
            loss = self.model(rows, sigma=sigma, noise=noise, **asked)
        return loss * (weight * len(rows) * self.processes.count / size)

    def _conditions(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """The rows ``[B, D]`` of a batch, and their conditions ``[B, C]`` as the network sees them,
        those of a share ``cond_dropout`` left out; None of a model without."""
        condition = self.diffusion_model.condition
        if condition is None:
            return batch, None
        (width,) = self.diffusion_model.event_shape
        if batch.shape[1] != width + condition.columns:
            raise ValueError(
                f"rows have {batch.shape[1]} columns, expected {width} and {condition.columns} "
                f"more, the columns of the condition '{condition.name}'"
            )
        chance = torch.rand(len(batch), device=self.device, generator=self.generator)
        return batch[:, :width], condition.encode(batch[:, width:], chance >= self.cond_dropout)

    def learning_rate(self, step: int) -> float:
        """The rate of the update that follows ``step`` updates: a function without state."""
        if self.schedule is None:
            return self.initial_rate
        done = min(step / self.num_steps, 1.0)
        return self.initial_rate * (1 + math.cos(math.pi * done)) / 2

    def metrics(self) -> dict[str, float]:
        """Means over the updates since the last call; the host waits for the device here."""
        totals = self.processes.gather(self.totals).mean(dim=0)
        loss, norm = (totals / max(self.steps_in_totals, 1)).tolist()
        self.totals.zero_()
        self.steps_in_totals = 0
        rate = self.learning_rate(self.step)
        return {"loss": loss, "gradient_norm": norm, "learning_rate": rate}

    def is_finite(self, *, weights: bool = False) -> bool:
        """Say whether the losses and gradients since the last metrics, and with ``weights`` also
        all parameters, are finite on every process."""
        parameters = self.diffusion_model.parameters() if weights else ()
        return checkpoint.all_finite([self.processes.gather(self.totals), *parameters])

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on, under the keys of ``model-{step}.pt``; tensors
        are those of the step itself, not copies."""
        return {
            "step": self.step,
            "model": self.diffusion_model.state_dict(),
            "opt": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "scaler": None,
            # What follows is ours; files of the 2023 release end above.
            "scheduler": {"name": self.schedule, "total_steps": self.num_steps},
            "rng": self.generator.get_state(),
            "metrics": {
                "totals": self.processes.gather(self.totals),  # [processes, 2]
                "steps": self.steps_in_totals,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, in a step of the same model; what a file of the
        2023 release lacks stays as it is.

        Raises:
            CheckpointError: not a training state, or that of another model.
        """
        if missing := [key for key in ("step", "model", "opt", "ema") if key not in state]:
            raise CheckpointError(f"has no '{missing[0]}', expected a training checkpoint")
        model_io.load_weights(self.diffusion_model, state["model"], "model")
        # Older versions of ema-pytorch keep its counters as [1], newer ones as [].
        counters = {key: state["ema"][key].reshape(()) for key in ("initted", "step")}
        model_io.load_weights(self.ema, {**state["ema"], **counters}, "ema")
        load_optimizer(self.optimizer, state["opt"])
        self.step = int(state["step"])
        load_generator(self.generator, state.get("rng"))
        if "metrics" in state:
            totals = state["metrics"]["totals"].reshape(-1, 2)
            same = len(totals) == self.processes.count
            self.totals.copy_(totals[self.processes.rank] if same else totals.mean(dim=0))
            self.steps_in_totals = state["metrics"]["steps"]
        self.capture_anew()

    def capture_anew(self) -> None:
        """Where steps are a CUDA graph, record it again: a normaliser's or an optimiser's tensors
        were replaced, and the graph would go on reading the old ones."""
        if self._replayed is not None:
            self._replayed.forget()

    def _rebuild_gradient_buckets(self) -> None:
        """Make the backward pass after which DDP rebuilds its gradient buckets.

        DDP then orders the gradients as they arrived, and sums them in that order from then on.
        With that pass made here, a run that resumes sums in the order of the run it continues.
        """
        row = torch.zeros(1, *self.diffusion_model.event_shape, device=self.device)
        sigma = torch.ones(1, device=self.device)
        condition = self.diffusion_model.condition
        asked = {} if condition is None else {"cond": condition.nothing(row)}
        self.accelerator.backward(self.model(row, sigma=sigma, noise=row, **asked))
        self.model.zero_grad(set_to_none=True)


def load_generator(generator: torch.Generator, state: Tensor | None) -> None:
    """Load a generator's state, if there is one that fits its kind of device; a run that moves to
    another kind starts new streams."""
    restore_generators([generator], [state])

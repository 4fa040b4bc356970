"""How long a model, its samples and an agent take on this machine is measured in some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.datasets.action_units import sample_bounds
from synther.diffusion.generation.terminal_rate import probe_rows
from synther.diffusion.successors import default_steps, fit_ensemble
from synther.learning.learner import Dims
from synther.learning.replay import Batch
from synther.learning.streams import generators_for
from synther.runs.runtime import RL_THREADS, cpu_threads
from synther.transitions import TransitionLayout, Transitions
from synther.upsampling.config import UpsampleConfig
from synther.upsampling.learning import Round, parts_of
from synther.upsampling.model import FittedModel, train

Learnt = TypeVar("Learnt")
WARM_UP, STEPS, REGRESSION_STEPS = 5, 20, 50
"""Training steps that are not timed; those of the model that are, and of the regressions of its
last stage, at first."""
ROUNDS, GROWTH = 4, 4
"""So often the steps become so many times as many at most, until they take longer than all else."""
UPDATES = 50
SAMPLES = 1_000
"""Rows of the draw that is timed on a CPU, whose time grows with them."""
AGENT_UPDATES = 1_000_000
"""The paper's, which the time is given for."""


@dataclass(frozen=True)
class Times:
    """Seconds on this machine.

    Args:
        model: of training it with the suggested settings.
        last_stage: of fitting the regressions that make samples consistent, and of the samples that
            show how often episodes end in them.
        samples: of drawing as many rows as there are.
        agent: of ``AGENT_UPDATES`` updates of TD3+BC with one seed, without evaluations.
    """

    model: float
    last_stage: float
    samples: float
    agent: float


def measure(data: Transitions, config: UpsampleConfig, device: torch.device) -> Times:
    """Time a few steps of each; some seconds on a CPU."""
    layout = TransitionLayout.of(data, terminals=bool(data.terminals.any()))
    few = data.subset(slice(10_000))
    step, model = _timed(
        lambda steps: train(few, layout, replace(config, steps=steps), device, 0), STEPS
    )
    fit_step, _ = _timed(
        lambda steps: fit_ensemble(few, seed=0, device=device, steps=steps), REGRESSION_STEPS
    )
    bounds = sample_bounds(few)
    fitted = FittedModel(model, layout, (bounds.low.tolist(), bounds.high.tolist()), config, {}, {})
    row = _row_time(fitted, len(data), device)
    return Times(
        model=step * config.steps,
        last_stage=fit_step * _regression_steps(data, config)
        + row * probe_rows(float(data.terminals.mean())),
        samples=row * len(data),
        agent=_update_time(data, device) * AGENT_UPDATES,
    )


def _timed(learn: Callable[[int], Learnt], steps: int) -> tuple[float, Learnt]:
    """The seconds of one of ``steps`` of training, and what the longer of two runs learnt; what
    both do beside their steps drops out, and what it varies by weighs little."""
    learn(1)  # what a process does once would count as the first run's
    for number in range(ROUNDS):
        count = steps * GROWTH**number
        start = time.perf_counter()
        learn(WARM_UP)
        between = time.perf_counter()
        found = learn(WARM_UP + count)
        beside = between - start
        taken = time.perf_counter() - between - beside
        if taken >= beside:
            break
    return max(0.0, taken) / count, found


def _regression_steps(data: Transitions, config: UpsampleConfig) -> int:
    """How many steps :func:`fit_ensemble` takes for the rows that are not held out."""
    kept = len(parts_of(data, config, Round(0, 0)).kept)
    return default_steps(kept, at_most=2 * config.steps)


def _row_time(fitted: FittedModel, rows: int, device: torch.device) -> float:
    """Seconds of one of so many rows that are drawn."""
    count = SAMPLES
    if device.type == "cuda":
        # A GPU takes about as long for a few rows as for a whole batch, and longer the first time.
        count = min(rows, fitted.config.sample_batch_size)
        fitted.draw(count, 0)
    start = _now(device)
    fitted.draw(count, 0)
    return (_now(device) - start) / count


def _now(device: torch.device) -> float:
    """The time at which the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _update_time(data: Transitions, device: torch.device) -> float:
    """Seconds of an update of TD3+BC on random batches of the data's shape."""
    dims, config = Dims(data.observation_dim, data.action_dim), TD3BCConfig()
    generator = torch.Generator().manual_seed(0)

    def rows(width: int) -> torch.Tensor:
        return torch.rand((1, config.batch_size, width), generator=generator).to(device)

    with cpu_threads(RL_THREADS):
        agent = TD3BC(config, dims, generators_for([0], "init"), device)
        batch = Batch(rows(dims.state), rows(dims.action), rows(1), rows(dims.state), rows(1))
        noise = (rows(dims.action),)  # once: a run has it on the device, without a copy each time
        start = 0.0
        for update in range(-10, UPDATES):
            if update == 0:
                start = _now(device)
            agent.update(batch, noise, agent.variant(update))
        return (_now(device) - start) / UPDATES

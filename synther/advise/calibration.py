"""How long a model, its samples and an agent take on this machine is measured in some seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.datasets.action_units import sample_bounds
from synther.learning.learner import Dims
from synther.learning.replay import Batch
from synther.learning.streams import generators_for
from synther.runs.runtime import RL_THREADS, cpu_threads
from synther.transitions import TransitionLayout, Transitions
from synther.upsampling.config import UpsampleConfig
from synther.upsampling.model import FittedModel, train

WARM_UP, STEPS = 5, 20
"""Training steps of the model that are not timed, and that are."""
UPDATES = 50
SAMPLES = 1_000
AGENT_UPDATES = 1_000_000
"""The paper's, which the time is given for."""


@dataclass(frozen=True)
class Times:
    """Seconds on this machine.

    Args:
        model: of training it with the suggested settings.
        samples: of drawing as many rows as there are; the last stage adds a little.
        agent: of ``AGENT_UPDATES`` updates of TD3+BC with one seed, without evaluations.
    """

    model: float
    samples: float
    agent: float


def measure(data: Transitions, config: UpsampleConfig, device: torch.device) -> Times:
    """Time a few steps of each; some seconds on a CPU."""
    layout = TransitionLayout.of(data, terminals=bool(data.terminals.any()))
    few = data.subset(slice(10_000))
    start = time.perf_counter()
    train(few, layout, replace(config, steps=WARM_UP), device, 0)
    between = time.perf_counter()
    model = train(few, layout, replace(config, steps=WARM_UP + STEPS), device, 0)
    # What both did beside their steps drops out.
    step = max(0.0, time.perf_counter() - between - (between - start)) / STEPS
    bounds = sample_bounds(few)
    fitted = FittedModel(model, layout, (bounds.low.tolist(), bounds.high.tolist()), config, {}, {})
    start = time.perf_counter()
    fitted.draw(SAMPLES, 0)
    row = (time.perf_counter() - start) / SAMPLES
    return Times(step * config.steps, row * len(data), _update_time(data, device) * AGENT_UPDATES)


def _update_time(data: Transitions, device: torch.device) -> float:
    """Seconds of an update of TD3+BC on random batches of the data's shape."""
    dims, config = Dims(data.observation_dim, data.action_dim), TD3BCConfig()
    generator = torch.Generator().manual_seed(0)

    def rows(width: int) -> torch.Tensor:
        return torch.rand((1, config.batch_size, width), generator=generator).to(device)

    with cpu_threads(RL_THREADS):
        agent = TD3BC(config, dims, generators_for([0], "init"), device)
        batch = Batch(rows(dims.state), rows(dims.action), rows(1), rows(dims.state), rows(1))
        start = 0.0
        for update in range(-10, UPDATES):
            if update == 0:
                start = time.perf_counter()
            metrics = agent.update(batch, (rows(dims.action),), agent.variant(update))
        float(next(iter(metrics.values())).sum())  # a GPU is done only then
        return (time.perf_counter() - start) / UPDATES

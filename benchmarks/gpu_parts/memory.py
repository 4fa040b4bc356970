"""Memory of the GPU does not grow while a run goes on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gpu_parts.check import Check
from gpu_parts.graphs import generator_of
from gpu_parts.subjects import LAYOUT, OFFLINE, ONLINE, REAL, SMALL
from gpu_parts.waits import offline_work, online_work, trainer_work
from synther.learning.sources import DiffusionGenerator
from synther.learning.streams import generators_for

SLACK = 1 << 20
"""Bytes that may come and go."""


def run(check: Check) -> None:
    td3_bc, redq = OFFLINE["TD3+BC"], ONLINE["REDQ"]
    works: dict[str, Callable[[int], object]] = {
        "an eager update": offline_work(check, td3_bc, graph=False),
        "a graphed update": offline_work(check, td3_bc, graph=True),
        "a block of online updates": online_work(check, redq),
        "a step of the diffusion trainer": trainer_work(check),
        "a batch that is generated ahead": _pools(check),
        "samples by the graphed network": _samples(check),
    }
    rounds = 12 if check.is_emulated else 300
    for name, work in works.items():
        if check.is_late():
            break
        held = []
        for step in range(1, 3 * rounds + 1):
            work(step)
            if step % rounds == 0:
                torch.cuda.synchronize()
                held.append(torch.cuda.memory_allocated(check.device))
        grown = held[-1] - held[0]
        check.expect(grown <= SLACK, f"{name}: {grown} bytes more after {2 * rounds} times")
    check.note("largest, GB", torch.cuda.max_memory_allocated(check.device) / 1e9)


def _pools(check: Check) -> Callable[[int], object]:
    generator = generator_of(check, cuda_graph=False)
    noise = generators_for([0], "synthetic", check.device)
    size = SMALL if check.is_emulated else REAL
    source = DiffusionGenerator(
        generator.sample_rows, lambda rows: rows, LAYOUT, size.batch, noise, 25
    )
    return lambda step: source.sample()


def _samples(check: Check) -> Callable[[int], object]:
    generator = generator_of(check, cuda_graph=True)
    return lambda step: step % 20 == 0 and generator.sample(70, seed=step)

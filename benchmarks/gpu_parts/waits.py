"""Updates do not make the host wait for the GPU: torch's debug mode raises where one does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from gpu_parts.check import Check
from gpu_parts.subjects import LAYOUT, OFFLINE, ONLINE, REAL, SMALL, batch_of, denoiser, moved
from synther.diffusion.training.trainer import Trainer
from synther.learning.graphs import graphed
from synther.learning.streams import BlockStream, generators_for


@contextlib.contextmanager
def forbidden() -> Iterator[None]:
    """Inside, a wait of the host is an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def run(check: Check) -> None:
    works: dict[str, Callable[[int], object]] = {}
    for name, build in check.some(OFFLINE, 4).items():
        works[name] = offline_work(check, build, graph=False)
        works[f"{name}, graphed"] = offline_work(check, build, graph=True)
    works |= {name: online_work(check, build) for name, build in ONLINE.items()}
    works["the diffusion trainer"] = trainer_work(check)
    for name, work in works.items():
        if check.is_late():
            break
        begun = 12 if check.is_emulated else 25
        for step in range(1, begun):  # optimisers get their state, variants are captured
            work(step)
        try:
            with forbidden():
                for step in range(begun, begun + 5):
                    work(step)
        except RuntimeError as error:
            check.expect(False, f"{name} waits: {str(error).splitlines()[0][:200]}")
        else:
            check.expect(True, name)


def offline_work(check: Check, build: Any, graph: bool) -> Callable[[int], object]:
    size = SMALL if check.is_emulated else REAL
    subject = build(check.device, size, "fp32")
    agent = subject.module
    update = graphed(agent) if graph else agent.update
    noise = BlockStream(agent.noise, generators_for([0], "noise", check.device))
    batch = moved(batch_of(0, size.batch, 1), check.device)

    def work(step: int) -> None:
        agent.schedule(step)
        update(batch, noise.next(), agent.variant(step))

    return work


def online_work(check: Check, build: Any) -> Callable[[int], object]:
    agent = build(check.device, SMALL if check.is_emulated else REAL, "fp32").module
    rows = torch.randn(200, LAYOUT.row_dim)
    agent.replay.insert(rows)
    agent.synthetic.insert(rows)
    return lambda step: agent.train_block()


def trainer_work(check: Check) -> Callable[[int], object]:
    rows = np.random.default_rng(0).normal(size=(500, LAYOUT.row_dim)).astype(np.float32)
    size = SMALL if check.is_emulated else REAL
    trainer = Trainer(
        denoiser(check.device, size), rows, results_folder=None, device=str(check.device), seed=0
    )
    return lambda step: trainer.train_on_batch(trainer.rows.draw(size.batch))

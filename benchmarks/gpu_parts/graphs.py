"""CUDA graphs: they train as eager updates do, and each replay has noise of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from gpu_parts.check import Check, apart
from gpu_parts.subjects import (
    DIMS,
    LAYOUT,
    OFFLINE,
    ONLINE,
    REAL,
    SMALL,
    Offline,
    batch_of,
    denoiser,
    moved,
)
from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.training.trainer import Trainer
from synther.learning.graphs import STRIDE, Stride, graphed
from synther.learning.learner import Agent
from synther.learning.replay import RowBuffer
from synther.learning.sources import ReplayBuffer
from synther.learning.streams import BlockStream, generators_for
from synther.runs.runtime import CompileMode, float32_products

SAME = 1e-4
"""The same kernels, but that their products may choose another workspace inside a graph."""


def run(check: Check) -> None:
    """Every algorithm through all variants of its update, then the graphed network of a sampler."""
    _can_capture(check)
    size = SMALL if check.is_emulated else REAL
    updates = 16 if check.is_emulated else 40
    with float32_products(check.device, "fp32"):
        for name, build in check.some(OFFLINE, 5).items():
            if check.is_late():
                break
            eager, captured = (
                build(check.device, size, "fp32", graph=graph) for graph in (False, True)
            )
            for number in range(1, updates + 1):
                eager.step(number), captured.step(number)
            difference = apart(captured.parameters(), eager.parameters())
            check.near(difference, SAME, f"{name}: weights after {updates} graphed updates")
        plain, graph = (generator_of(check, cuda_graph) for cuda_graph in (False, True))
        rows, expected = (each.sample(70, seed=1)[0] for each in (graph, plain))
        error = float(np.abs(rows - expected).max() / expected.std())
        check.near(error, 2e-3, "rows of the graphed network")
        for name, build in check.some(OFFLINE, 1).items():
            check.near(_strides(check, build), SAME, f"{name}: weights after strides of updates")
        check.near(_blocks(check), SAME, "weights after graphed blocks of online updates")
        check.near(_denoiser_steps(check), SAME, "weights after graphed steps of the denoiser")


def _strides(check: Check, build: Callable[..., Offline]) -> float:
    """How far the weights are from those of the same updates one by one."""
    size = SMALL if check.is_emulated else REAL

    def trained(strided: bool) -> Module:
        agent: Agent = build(check.device, size, "fp32").module
        rows = RowBuffer.holding(LAYOUT, moved(_rows(1000), check.device))
        source = ReplayBuffer(rows, size.batch, generators_for([0], "data", check.device))
        noise = BlockStream(agent.noise, generators_for([0], "noise", check.device))
        if strided:
            stride = Stride(agent, source, noise)
            for start in range(1, 5 * STRIDE, STRIDE):
                stride(range(start, start + STRIDE))
            return agent
        for step in range(1, 5 * STRIDE + 1):
            agent.schedule(step)
            agent.update(source.sample(), noise.next(), agent.variant(step))
        return agent

    return _apart(trained(True), trained(False))


def _blocks(check: Check) -> float:
    size = SMALL if check.is_emulated else REAL

    def trained(compile: CompileMode) -> Module:
        agent = ONLINE["REDQ"](check.device, size, "fp32", compile=compile).module
        for buffer in (agent.replay, agent.synthetic):
            buffer.insert(_rows(500))
        for _ in range(8):
            agent.train_block()
        return agent

    return _apart(trained("cudagraph"), trained("off"))


def _denoiser_steps(check: Check) -> float:
    size = SMALL if check.is_emulated else REAL

    def trained(compile: CompileMode) -> Module:
        trainer = Trainer(
            denoiser(check.device, size), _rows(500), results_folder=None,
            device=str(check.device), seed=0, layout=LAYOUT, compile=compile,
        )  # fmt: skip
        trainer.train(20)
        return trainer.diffusion_model

    return _apart(trained("cudagraph"), trained("off"))


def _rows(count: int) -> Tensor:
    return torch.randn(count, LAYOUT.row_dim, generator=torch.Generator().manual_seed(0))


def _apart(graphed: Module, eager: Module) -> float:
    return apart(graphed.parameters(), eager.parameters())


def fresh_noise(check: Check) -> None:
    """With rates of 0 and one batch for all, only the noise makes two losses differ."""
    size = SMALL if check.is_emulated else REAL
    config = TD3BCConfig(network_width=size.width, batch_size=size.batch, learning_rate=0.0)
    losses = []
    for graph in (True, False):
        agent = TD3BC(config, DIMS, generators_for([0], "init"), check.device)
        update = graphed(agent) if graph else agent.update
        noise = BlockStream(agent.noise, generators_for([0], "noise", check.device))
        batch = moved(batch_of(0, size.batch, 1), check.device)
        losses.append(
            [
                float(update(batch, noise.next(), agent.variant(step))["critic_loss"])
                for step in range(1, 21)
            ]
        )
    replayed, eager = losses
    check.expect(len(set(replayed)) == 20, "two replays of an update had the same noise")
    check.near(
        max(abs(a - b) / abs(b) for a, b in zip(replayed, eager, strict=True)),
        SAME,
        "losses of replays beside those of eager updates with the same noise",
    )
    generator = generator_of(check, cuda_graph=True)
    first, again, other = (generator.sample(70, seed=seed)[0] for seed in (1, 1, 2))
    check.expect(bool((first == again).all()), "graphed samples of one seed differ")
    check.expect(not (first == other).any(), "graphed samples of two seeds share numbers")
    check.expect(len(np.unique(first[:, 0])) == len(first), "two graphed samples are the same")


def generator_of(check: Check, cuda_graph: bool) -> SimpleDiffusionGenerator:
    model = denoiser(check.device, SMALL if check.is_emulated else REAL)
    return SimpleDiffusionGenerator(
        LAYOUT, model, 12, sample_batch_size=30, clip_actions=False, cuda_graph=cuda_graph
    )


def _can_capture(check: Check) -> None:
    """A device that cannot capture would let all of this pass eagerly."""
    values, graph = torch.zeros(3, device=check.device), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        values.add_(1)
    before = float(values[0])
    graph.replay()
    check.expect(before == 0 and float(values[0]) == 1, "a captured operation ran otherwise")

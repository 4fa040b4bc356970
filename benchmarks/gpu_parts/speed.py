"""How fast training and sampling are, what full runs would take, and how busy the GPU is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from gpu_parts.check import Check
from gpu_parts.machine import seconds
from gpu_parts.subjects import DIMS, LAYOUT, REAL, SMALL, moved
from synther.corl.algorithms import cql, edac, iql, td3_bc
from synther.diffusion.denoiser_network import ResidualMLPDenoiser
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.training.trainer import Trainer
from synther.diffusion.utils import construct_diffusion_model
from synther.learning.graphs import STRIDE, Stride, graphed
from synther.learning.replay import RowBuffer
from synther.learning.sources import ReplayBuffer
from synther.learning.streams import BlockStream, generators_for
from synther.online.redq_rlpd_agent import REDQRLPDAgent
from synther.online.redq_sac import AgentConfig
from synther.runs.runtime import CompileMode

AIMS = {
    "100 000 denoiser steps, width 1024, batch 256": 60.0,
    "5 million rows with fast, width 2048": 60.0,
    "a million TD3+BC updates": 180.0,
    "16 seeds over one": 2.0,
    "SynthER on cheetah-run, 100 000 steps": 900.0,
}
"""Seconds on one H100, and a ratio."""


def run(check: Check) -> None:
    denoiser = _denoiser(check)
    rows_per_second = _sampling(check)
    _offline(check)
    _online(check, denoiser, rows_per_second)


def _project(check: Check, aim: str, value: float, how: str) -> None:
    met = "met" if value <= AIMS[aim] else "missed"
    check.note(f"{aim} ({how})", f"{value:.3g}, aim {AIMS[aim]:g}: {met}")


def _denoiser(check: Check) -> float:
    """Steps a second of the fastest way."""
    width = 16 if check.is_emulated else 1024
    rows = np.random.default_rng(0).normal(size=(100_000, LAYOUT.row_dim)).astype(np.float32)
    fastest = 0.0
    for precision, compile in itertools.product(("fp32", "tf32", "bf16"), _modes(check)):
        network = partial(ResidualMLPDenoiser, mlp_width=width, dim_t=128, num_layers=6)
        model = construct_diffusion_model(rows, "standard", network, layout=LAYOUT)
        trainer = Trainer(
            model, rows, results_folder=None, device=str(check.device), seed=0,
            precision=precision, layout=LAYOUT, compile=compile,  # type: ignore[arg-type]
        )  # fmt: skip

        def step(trainer: Trainer = trainer) -> None:
            trainer.train_on_batch(trainer.rows.draw(256))

        taken = _timed(check, step, 300)
        fastest = max(fastest, 1 / taken)
        aim = "100 000 denoiser steps, width 1024, batch 256"
        _project(check, aim, 1e5 * taken, f"{precision}, {compile}, s")
        if compile == "off":
            _profile(check, f"denoiser in {precision}", step)
    return fastest


def _modes(check: Check) -> tuple[CompileMode, ...]:
    """Of computing an update; an emulated device has no inductor."""
    return ("off", "cudagraph") if check.is_emulated else ("off", "cudagraph", "max")


def _sampling(check: Check) -> float:
    """Rows a second with the preset ``fast``, at width 2048."""
    width, rows = (16, 100) if check.is_emulated else (2048, 100_000)
    network = partial(ResidualMLPDenoiser, mlp_width=width, dim_t=128, num_layers=6)
    data = torch.randn(1000, LAYOUT.row_dim).numpy()
    model = construct_diffusion_model(data, "standard", network, layout=LAYOUT).to(check.device)
    best = 0.0
    for cuda_graph in (False, True):
        sampler = SimpleDiffusionGenerator(
            LAYOUT, model, sample_batch_size=rows, sampler="fast", cuda_graph=cuda_graph
        )
        taken = _timed(check, lambda sampler=sampler: sampler.sample(rows, seed=0), 3)
        best = max(best, rows / taken)
        how = f"{sampler.precision}, {'graphed' if cuda_graph else 'eager'}, s"
        _project(check, "5 million rows with fast, width 2048", 5e6 * taken / rows, how)
    return best


def _offline(check: Check) -> None:
    for name, config_class, build in (
        ("TD3+BC", td3_bc.TD3BCConfig, td3_bc.TD3BC),
        ("IQL", iql.IQLConfig, iql.IQL),
        ("EDAC", edac.EDACConfig, edac.EDAC),
        ("CQL", cql.CQLConfig, cql.CQL),
    ):
        for compile in _modes(check):
            if check.is_late():
                return
            each = STRIDE if compile == "max" else 1
            work = _updates(check, config_class, build, 1, compile)
            taken = _timed(check, work, 2000 // each) / each
            check.note(f"{name}, {compile}, updates a second", 1 / taken)
            if name == "TD3+BC":
                _project(check, "a million TD3+BC updates", 1e6 * taken, f"{compile}, s")
                many = _updates(check, config_class, build, 16, compile)
                stacked = _timed(check, many, 1000 // each) / each
                _project(check, "16 seeds over one", stacked / taken, compile)
            if compile == "off":
                _profile(check, name, work)


def _updates(
    check: Check, config_class: Any, build: Any, seeds: int, compile: CompileMode
) -> Callable[[], None]:
    """Updates as a run makes them, a stride of them in the mode ``max``: batches and noise drawn,
    variants in turn."""
    size = SMALL if check.is_emulated else REAL
    config = config_class(batch_size=size.batch, num_seeds=seeds, compile=compile)
    agent = build(config, DIMS, generators_for(config.seeds, "init"), check.device)
    update = graphed(agent) if compile == "cudagraph" else agent.update
    rows = RowBuffer.holding(LAYOUT, moved(torch.randn(100_000, LAYOUT.row_dim), check.device))
    order = generators_for(config.seeds, "data", check.device)
    source = ReplayBuffer(rows, size.batch, order)
    noise = BlockStream(agent.noise, generators_for(config.seeds, "noise", check.device))
    if compile == "max":
        stride = Stride(agent, source, noise)
        starts = itertools.count(1, STRIDE)

        def strides() -> None:
            first = next(starts)
            stride(range(first, first + STRIDE))

        return strides
    done = itertools.count(1)

    def work() -> None:
        step = next(done)
        agent.schedule(step)
        update(source.sample(), noise.next(), agent.variant(step))

    return work


def _online(check: Check, denoiser_steps: float, rows_per_second: float) -> None:
    """SynthER's published settings: 20 updates a step, ten refills of 100 000 denoiser steps and a
    million rows; the simulator's own time is not in it."""
    size = SMALL if check.is_emulated else REAL
    refills = 10 * (1e5 / denoiser_steps + 1e6 / rows_per_second)
    states = torch.randn(1, 1, DIMS.state, device=check.device)
    for compile in _modes(check):
        config = AgentConfig(
            target_entropy=-float(DIMS.action), batch_size=size.batch, start_steps=0,
            delay_update_steps=0, replay_size=100_000, utd_ratio=20, num_Q=2,
            hidden_sizes=(size.width,) * 2, compile=compile,
        )  # fmt: skip
        agent = REDQRLPDAgent(config, DIMS, 0, check.device, diffusion_buffer_size=100_000)
        for buffer in (agent.replay, agent.synthetic):
            buffer.insert(torch.randn(50_000, LAYOUT.row_dim))

        def step(agent: REDQRLPDAgent = agent) -> None:
            agent.explore(states).cpu()
            agent.train_block()

        taken = _timed(check, step, 50)
        check.note(f"SynthER's blocks of 20 updates, {compile}, a second", 1 / taken)
        if compile == "off":
            _profile(check, "a block of 20 updates", step)
        aim = "SynthER on cheetah-run, 100 000 steps"
        _project(check, aim, 1e5 * taken + refills, f"{compile}, without its simulator, s")


def _timed(check: Check, work: Callable[[], object], repeats: int) -> float:
    """Seconds of one call, after some that do not count (compiling, captures, clocks)."""
    for _ in range(12):
        work()
    few = {"quick": 5, "normal": 1, "full": 1}[check.mode]
    return seconds(work, 2 if check.is_emulated else max(2, repeats // few))


def _profile(check: Check, name: str, work: Callable[[], object]) -> None:
    """Kernels of a call, and the share of the time in which one runs."""
    if check.is_emulated:
        return
    from torch.profiler import ProfilerActivity, profile

    calls = 20
    plain = seconds(work, calls)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
    kernels = [each for each in profiler.events() if each.device_type.name == "CUDA"]
    busy = sum(each.device_time for each in kernels) / 1e6
    check.note(f"{name}: kernels a call", len(kernels) / calls)
    check.note(f"{name}: share of the time that the GPU is busy", busy / (plain * calls))

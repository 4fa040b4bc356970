"""Samples a second: the preset ``fast`` as it comes, over the plain ``paper`` sampler.

    python3 benchmarks/sampling_speed.py [--device cuda] [--threads 2] [--whole]

``paper`` is the 2023 release's way: 128 steps of stochastic Heun in float32, new memory at every
layer. ``fast`` is what ``--sampler fast`` gives on this machine: fewer network calls, products in
bfloat16 where the device has units for it, and activations in shared memory. In between stand the
single gains. The ways take turns within each round, so that whatever else the machine does falls on
all alike; gains are medians, over the rounds, of ratios within a round. CPU time, which other
processes disturb less, stands beside the wall clock's.

A round of ``paper`` is ``--calls`` of its 255 network calls, which all cost the same, scaled up;
``--whole`` runs all of them.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np
import torch

from synther.diffusion.denoiser_network import ResidualMLPDenoiser
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.generation.presets import PRESETS
from synther.diffusion.utils import construct_diffusion_model
from synther.runs.runtime import available_cpus, cpu_threads, resolve_device
from synther.transitions import TransitionLayout

LAYOUT = TransitionLayout(17, 6)  # HalfCheetah: rows of 42 columns
TARGET = 20.0

Way = tuple[Callable[[], object], int, int]
"""(work, network calls in it, network calls of a sample)."""


def new_model(width: int, device: torch.device) -> ElucidatedDiffusion:
    """With random weights: speed does not depend on them."""
    rows = np.random.default_rng(0).normal(size=(2000, LAYOUT.row_dim)).astype(np.float32)
    network = functools.partial(ResidualMLPDenoiser, mlp_width=width)
    model = construct_diffusion_model(rows, "standard", network, layout=LAYOUT)
    return model.to(device).eval().requires_grad_(False)


def sampling(model: ElucidatedDiffusion, batch: int, calls: int | None, **options: object) -> Way:
    """Sampling with the options; ``calls`` of the network's, or all where None."""
    generator = SimpleDiffusionGenerator(LAYOUT, model, sample_batch_size=batch, **options)
    of_a_sample = PRESETS[str(options["sampler"])].network_calls
    if calls is None:
        return lambda: generator.sample_rows(batch), of_a_sample, of_a_sample
    sampler, x = generator.model, torch.randn(batch, LAYOUT.row_dim, device=model.device)

    def some() -> None:
        with torch.no_grad():
            for _ in range(calls):
                sampler.preconditioned_network_forward(x, 1.0)

    return some, calls, of_a_sample


def ways(width: int, batch: int, calls: int | None, device: torch.device) -> dict[str, Way]:
    model, plain = (new_model(width, device) for _ in range(2))
    plain.net.residual_mlp.reuse_buffers = False
    graph = {"cuda_graph": True} if device.type == "cuda" else {}
    return {
        "paper, plain": sampling(plain, batch, calls, sampler="paper"),
        "paper, shared memory": sampling(model, batch, calls, sampler="paper", **graph),
        "paper, shared memory, bf16": sampling(
            model, batch, calls, sampler="paper", precision="bf16", **graph
        ),
        "fast, fp32": sampling(model, batch, calls, sampler="fast", precision="fp32", **graph),
        "fast": sampling(model, batch, None, sampler="fast", **graph),
    }


def measure(way: Way, device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds of a batch."""
    work, done, of_a_sample = way
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    scale = of_a_sample / done
    return (time.perf_counter() - wall) * scale, (time.process_time() - cpu) * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n>")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 takes every core")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3, help="network calls of a round")
    parser.add_argument("--whole", action="store_true", help="all network calls of every way")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    threads = arguments.threads or available_cpus()
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} threads"
    calls = None if arguments.whole else arguments.calls
    with cpu_threads(threads):
        todo = ways(arguments.width, arguments.batch, calls, device)
        for work, _, _ in todo.values():
            work()  # allocations, captures, packed weights
        seconds = np.array(
            [[measure(way, device) for way in todo.values()] for _ in range(arguments.rounds)]
        )
    print(f"width {arguments.width}, batch {arguments.batch}, {where}, torch {torch.__version__}")
    print("| | calls | samples/s (range) | over plain paper | by CPU time |\n|" + "---|" * 5)
    gains = np.median(seconds[:, :1] / seconds, axis=0)
    for index, (name, (_, _, of_a_sample)) in enumerate(todo.items()):
        rates = np.sort(arguments.batch / seconds[:, index, 0])
        wall, cpu = gains[index]
        print(
            f"| {name} | {of_a_sample} | {np.median(rates):.3g} ({rates[0]:.3g} to {rates[-1]:.3g})"
            f" | {wall:.2f} | {cpu:.2f} |"
        )
    print(f"aim {TARGET:g}:", "met" if gains[-1, 0] >= TARGET else "not met")


if __name__ == "__main__":
    main()

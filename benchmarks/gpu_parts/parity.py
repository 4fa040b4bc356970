"""The same arithmetic on the CPU and on the GPU: updates of everything, samplers, likelihood."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpu_parts.check import Check, apart
from gpu_parts.subjects import (
    DIMS,
    EVERYTHING,
    LAYOUT,
    REAL,
    SMALL,
    Build,
    Online,
    Size,
    Subject,
    denoiser,
    in_float64,
)
from synther.diffusion.samplers import SAMPLERS
from synther.learning.learner import Metrics
from synther.runs.runtime import float32_products

CPU = torch.device("cpu")
ONE, TWENTY, ROUNDED = 1e-5, 1e-3, 5e-2
"""Limits of relative errors: after one update, after twenty, and in bfloat16."""
AS_GOOD = 4.0
"""Where the CPU's own rounding is above such a limit, the GPU may be this many times as far as the
CPU from the same update in higher precision."""


def run(check: Check) -> None:
    size = SMALL if check.is_emulated else REAL
    updates = 5 if check.mode == "quick" else 20
    with float32_products(check.device, "fp32"):
        for name, build in EVERYTHING.items():
            if not check.is_late():
                _updates(check, name, build, size, updates)
        for name in SAMPLERS:
            if not check.is_late():
                _sampler(check, name, size)
        _likelihood(check, size)
        _mix(check, size)


def _updates(check: Check, name: str, build: Build, size: Size, updates: int) -> None:
    """Gradients and metrics of one update, weights after some more, metrics in bfloat16.

    After one update weights say little: Adam's first step has the gradient's sign alone, which
    rounding decides where a gradient is nearly 0.
    """

    def compare(what: str, take: Callable[[Subject], list[Tensor]], limit: float, to: int) -> None:
        found, expected = take(on_gpu), take(on_cpu)
        error = apart(found, expected)
        if error <= limit:
            check.near(error, limit, f"{name}: {what}")
            return
        exact = in_float64(build(CPU, size, "fp32"))
        for number in range(1, to + 1):
            exact.step(number)
        error, of_cpu = (apart(each, take(exact)) for each in (found, expected))
        _as_good(check, f"{name}: {what}", error, of_cpu)

    on_cpu, on_gpu = (build(device, size, "fp32") for device in (CPU, check.device))
    expected, found = on_cpu.step(1), on_gpu.step(1)
    check.near(_metrics_apart(found, expected), ONE, f"{name}: metrics of an update")
    compare("its gradients", lambda subject: subject.gradients(), ONE, 1)
    for number in range(2, updates + 1):
        on_cpu.step(number), on_gpu.step(number)
    weights = f"weights after {updates} updates"
    compare(weights, lambda subject: subject.parameters(), TWENTY, updates)
    _rounded(check, name, build, size, expected)


def _as_good(check: Check, what: str, error: float, of_cpu: float) -> None:
    """The GPU is about as far as the CPU from what both round."""
    ratio = error / of_cpu if of_cpu else float("inf")
    check.near(ratio, AS_GOOD, f"{what}: beside the CPU's own error of {of_cpu:.1e}")


def _rounded(check: Check, name: str, build: Build, size: Size, expected: Metrics) -> None:
    def error(device: torch.device) -> float:
        return _metrics_apart(build(device, size, "bf16").step(1), expected)

    what, found = f"{name}: metrics of an update in bf16", error(check.device)
    if found <= ROUNDED:
        check.near(found, ROUNDED, what)
    else:
        _as_good(check, what, found, error(CPU))


def _metrics_apart(found: Metrics, expected: Metrics) -> float:
    """Relative to a metric, or to 1 where it is smaller."""
    if found.keys() != expected.keys():
        return float("inf")
    errors = [
        float(((found[key].cpu() - each.cpu()).abs() / each.cpu().abs().clamp(min=1)).max())
        for key, each in expected.items()
    ]
    return max(each if each == each else float("inf") for each in errors)


def _sampler(check: Check, name: str, size: Size) -> None:
    """Rows of the same model from the same noise."""
    steps, rows = 8, 8 if check.is_emulated else 512
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(4 * steps, rows, LAYOUT.row_dim, generator=generator)
    found = []
    for device in (check.device, CPU):
        model = denoiser(device, size)
        model.sampler = name
        tape = noise.to(device)
        found.append(model.sample(rows, steps, noise=lambda i, tape=tape: tape[i]))
    check.near(apart(found[:1], found[1:]), TWENTY, f"sampler {name}: its rows")


def _likelihood(check: Check, size: Size) -> None:
    generator = torch.Generator().manual_seed(6)
    rows = torch.randn(8, LAYOUT.row_dim, generator=generator)
    probe = torch.randn(8, LAYOUT.row_dim, generator=generator).sign()
    found = [
        denoiser(device, size).log_likelihood(rows.to(device), probe=probe.to(device))
        for device in (check.device, CPU)
    ]
    check.near(apart(found[:1], found[1:]), TWENTY, "the likelihood of rows")


def _mix(check: Check, size: Size) -> None:
    """Half of each of SynthER's batches is synthetic, its second half; they are drawn there."""
    agent = Online(check.device, size, "fp32", utd_ratio=3).module
    for buffer, value in ((agent.replay, 1.0), (agent.synthetic, 2.0)):
        buffer.insert(torch.full((50, LAYOUT.row_dim), value))
    states = agent.draw().states.cpu()
    half = size.batch // 2
    expected = torch.cat([torch.ones(half), torch.full((size.batch - half,), 2.0)])
    shape = (1, 3, size.batch, DIMS.state)
    good = states.shape == shape and bool((states == expected[:, None]).all())
    check.expect(good, "SynthER's batches are not half real, half synthetic, in this order")

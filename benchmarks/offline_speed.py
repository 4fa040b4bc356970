"""Updates a second of the offline algorithms beside a plain, per-network, per-seed twin.

    python3 benchmarks/offline_speed.py [--algorithms td3_bc,iql] [--compile] [--seeds 8] [--quick]

The twin (``plain_agents.py``) is what one writes without thinking of speed, in float32. Everything
takes turns within each round, so that whatever else the machine does falls on all alike; gains are
medians, over the rounds, of ratios within a round, with the 10 % and 90 % quantiles. One seed's
gain is over the twin (on a GPU: over our eager float32). A stack's is over as many single runs of
ours in sequence, in the same precision and mode. The share is that of the machine's own float32
rate at products of 256 x 256 x 256, counting every product of our update; bf16 can pass 100 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from plain_agents import PlainCQL, PlainEDAC, PlainIQL, PlainTD3BC
from products import Work, bare_products, operations_of, rate_of, seconds_of
from rich.console import Console
from rich.table import Table
from torch import Tensor

from synther.corl.algorithms import cql, edac, iql, td3_bc
from synther.corl.shared.config import RunConfig
from synther.learning.graphs import graphed
from synther.learning.learner import Agent, Dims
from synther.learning.replay import Batch
from synther.learning.streams import BlockStream, generators_for
from synther.runs.runtime import (
    CompileMode,
    Precision,
    available_cpus,
    cpu_threads,
    keep_freed_memory,
    resolve_device,
)

DIMS = Dims(17, 6)  # HalfCheetah
BATCH = 256
UNITS = 2  # updates in the shortest slice: one of each of TD3+BC's two forms

Seconds = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Algorithm:
    config: type[RunConfig]
    agent: Callable[..., Agent]
    plain: Callable[[int, int], Any]
    target: float


ALGORITHMS = {
    "td3_bc": Algorithm(td3_bc.TD3BCConfig, td3_bc.TD3BC, PlainTD3BC, 1.6),
    "iql": Algorithm(iql.IQLConfig, iql.IQL, PlainIQL, 1.6),
    "edac": Algorithm(edac.EDACConfig, edac.EDAC, PlainEDAC, 2.0),
    "cql": Algorithm(cql.CQLConfig, cql.CQL, PlainCQL, 1.3),
}
STACK_TARGET = 1.15


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way of making updates, what its gain is over, and what the gain should be."""

    work: Work
    seeds: int = 1
    base: str | None = None
    target: float | None = None


def random_batch(stack: tuple[int, ...], device: torch.device) -> Batch:
    def normal(width: int) -> Tensor:
        return torch.randn(*stack, BATCH, width, device=device)

    dones = (torch.rand(*stack, BATCH, 1, device=device) < 0.01).float()
    return Batch(
        normal(DIMS.state), normal(DIMS.action).tanh(), normal(1), normal(DIMS.state), dones
    )


def plain_work(algorithm: Algorithm) -> Work:
    agent, batch = algorithm.plain(*DIMS), random_batch((), torch.device("cpu"))

    def work(updates: int) -> None:
        for _ in range(updates):
            agent.update(batch)

    return work


def stacked_work(algorithm: Algorithm, seeds: int, device: torch.device, **options: Any) -> Work:
    """Ours, random numbers included."""
    config = algorithm.config(batch_size=BATCH, num_seeds=seeds, **options)
    agent = algorithm.agent(config, DIMS, generators_for(config.seeds, "init"), device)
    update = graphed(agent) if config.compile == "cudagraph" else agent.update
    noise = BlockStream(agent.noise, generators_for(config.seeds, "noise", device))
    batch, done = random_batch((seeds,), device), iter(range(1, 10**9))

    def work(updates: int) -> None:
        for step in (next(done) for _ in range(updates)):
            agent.schedule(step)
            update(batch, noise.next(), agent.variant(step))

    return work


def variants(
    algorithm: Algorithm, device: torch.device, arguments: argparse.Namespace
) -> Iterator[tuple[str, Variant]]:
    on_cpu, many = device.type == "cpu", arguments.seeds
    if on_cpu:
        yield "plain", Variant(plain_work(algorithm))
    modes: list[CompileMode] = ["off"]
    modes += ["default"] if arguments.compile else []
    modes += [] if on_cpu else ["cudagraph"]
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for seeds, precision, mode in itertools.product((1, many), precisions, modes):
        alone = precision + {"off": "", "default": " compiled", "cudagraph": " graphed"}[mode]
        work = stacked_work(algorithm, seeds, device, precision=precision, compile=mode)
        if seeds > 1:
            yield f"{seeds} seeds {alone}", Variant(work, seeds, alone, STACK_TARGET)
        elif on_cpu:
            yield alone, Variant(work, 1, "plain", algorithm.target)
        else:
            yield alone, Variant(work, 1, None if alone == "fp32" else "fp32")


def measure(works: dict[str, Work], device: torch.device, quick: bool) -> dict[str, list[float]]:
    """Seconds an update (100 products) of each, one number a round."""
    slice_seconds, rounds = (0.1, 5) if quick else (0.4, 15)
    counts = {}
    for name, work in works.items():
        for _ in range(6):  # past lazy set-up, and a graph's warm-up of both forms
            seconds_of(work, UNITS, device)
        one = seconds_of(work, UNITS, device)
        counts[name] = UNITS * max(1, round(slice_seconds / one / UNITS))
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds_of(work, counts[name], device))
    return times


def report(
    name: str, arguments: argparse.Namespace, device: torch.device, table: Table
) -> dict[str, Any]:
    algorithm = ALGORITHMS[name]
    found_variants = dict(variants(algorithm, device, arguments))
    works = {key: variant.work for key, variant in found_variants.items()}
    works["products"] = bare_products(device)
    times = {key: np.array(each) for key, each in measure(works, device, arguments.quick).items()}
    rate = rate_of(times.pop("products"))
    update = stacked_work(algorithm, 1, device)
    flops = operations_of(lambda: update(UNITS)) / UNITS
    numbers: dict[str, Any] = {
        "gflop_per_update": flops / 1e9,
        "gflops_machine": float(np.median(rate)) / 1e9,
    }
    for key, variant in found_variants.items():
        row = _numbers(variant, times[key], times.get(variant.base or ""), flops, rate)
        numbers[key] = row
        low, high = row["gain_10_90"] or (0, 0)
        table.add_row(
            name if key == next(iter(found_variants)) else "",
            key,
            f"{row['updates_per_second']:.1f}",
            f"{row['gain']:.2f} ({low:.2f} to {high:.2f})" if variant.base else "",
            f"{variant.target:.2f}" if variant.target else "",
            "" if key == "plain" else f"{row['share_of_matrix_rate']:.0%}",  # other products
        )
    table.add_section()
    return numbers


def _numbers(
    variant: Variant, seconds: Seconds, base: Seconds | None, flops: float, rate: Seconds
) -> dict[str, Any]:
    """What a variant's ``seconds`` an update, one a round, say of it."""
    gains = None if base is None else variant.seeds * base / seconds
    return {
        "updates_per_second": float(np.median(variant.seeds / seconds)),
        "gain": None if gains is None else float(np.median(gains)),
        "gain_10_90": None if gains is None else np.quantile(gains, [0.1, 0.9]).tolist(),
        "share_of_matrix_rate": float(np.median(variant.seeds * flops / seconds / rate)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS), help="comma-separated names")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; the twin runs on the CPU")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; 0: all cores")
    parser.add_argument("--seeds", type=int, default=8, help="agents in the stack")
    parser.add_argument("--compile", action="store_true", help="the compiled update as well")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    arguments = parser.parse_args()
    device, console = resolve_device(arguments.device), Console()
    table = Table("algorithm", "variant", "updates/s (all seeds)", "gain (10 to 90 %)", "target",
                  "of matrix rate")  # fmt: skip
    numbers: dict[str, Any] = {}
    base = "the plain twin" if device.type == "cpu" else "fp32"
    keep_freed_memory()  # as the runner does; the twin has it too
    with cpu_threads(arguments.threads):
        for name in arguments.algorithms.split(","):
            torch.manual_seed(0)
            numbers[name] = report(name, arguments, device, table)
        threads = torch.get_num_threads()
    console.print(table)
    console.print(
        f"batch {BATCH}, {threads} of {available_cpus()} CPU threads, {device}, torch "
        f"{torch.__version__}. A gain is over {base}, a stack's over as many single runs of "
        "ours in sequence, in the same precision and mode."
    )
    if arguments.output:
        arguments.output.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Speed of the diffusion model beside what the machine's matrix products alone allow.

    python3 benchmarks/diffusion_speed.py [--device cuda] [--quick]

For each batch size and precision: training steps a second (everything: drawing the batch, noise,
loss, backward, clipping, AdamW, EMA) beside the bare products of a forward and backward pass at the
same shapes, into memory that is already there; and samples a second of the 128-step stochastic
sampler beside the bare forward products. All of them take turns within each round, so that whatever
else the machine does falls on all alike; shares and gains are medians, over the rounds, of ratios
within a round.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from synther.diffusion.denoiser_network import ResidualMLPDenoiser
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.training.trainer import Trainer
from synther.diffusion.utils import construct_diffusion_model
from synther.runs.runtime import Precision, available_cpus, cpu_threads, resolve_device
from synther.transitions import TransitionLayout

LAYOUT = TransitionLayout(17, 6)  # HalfCheetah: rows of 42 columns
TARGET_SHARE, TARGET_BF16 = 0.80, 2.0
PAPER_CALLS = 255  # network calls of 128 steps
SAMPLER_STEPS = 4  # what is timed instead: 7 calls
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Work = Callable[[], object]


def products(
    net: ResidualMLPDenoiser,
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    training: bool,
) -> Work:
    """The network's matrix products and nothing else."""
    first = {id(net.proj), id(net.time_mlp[1])}  # nobody needs the gradient of their inputs
    calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for layer in net.modules():
        if not isinstance(layer, nn.Linear):
            continue
        rows = batch
        if not training and any(layer is each for each in net.time_mlp):
            rows = 1  # a sampler's step embeds its noise level once
        x, y = (
            torch.randn(rows, width, device=device, dtype=dtype)
            for width in (layer.in_features, layer.out_features)
        )
        weight = torch.randn(layer.out_features, layer.in_features, device=device, dtype=dtype)
        calls.append((x, weight.t(), torch.empty_like(y)))
        if training:
            calls.append((y.t(), x, torch.empty_like(weight)))
            if id(layer) not in first:
                calls.append((y, weight, torch.empty_like(x)))

    def run() -> None:
        for left, right, out in calls:
            torch.mm(left, right, out=out)

    return run


def training(width: int, batch: int, precision: Precision, device: torch.device) -> Trainer:
    rows = np.random.default_rng(0).normal(size=(20_000, LAYOUT.row_dim)).astype(np.float32)
    network = functools.partial(ResidualMLPDenoiser, mlp_width=width)
    model = construct_diffusion_model(rows, "standard", network, layout=LAYOUT)
    return Trainer(
        model,
        rows,
        small_batch_size=batch,
        results_folder=None,
        precision=precision,
        device=str(device),
        seed=0,
    )


def works(
    width: int, batch: int, precision: Precision, device: torch.device
) -> dict[str, tuple[Work, float]]:
    """What is timed: name -> (work, network calls or steps in it)."""
    trainer = training(width, batch, precision, device)
    net = trainer.diffusion_model.net
    assert isinstance(net, ResidualMLPDenoiser)
    generator = SimpleDiffusionGenerator(
        LAYOUT, trainer.ema.ema_model, num_sample_steps=SAMPLER_STEPS, precision=precision
    )
    calls = 2 * SAMPLER_STEPS - 1
    dtype = DTYPES[precision]
    return {
        "train": (lambda: trainer.train_on_batch(trainer.rows.draw(batch)), 1),
        "train products": (products(net, batch, dtype, device, training=True), 1),
        "sample": (lambda: generator.model.sample(batch, SAMPLER_STEPS), calls),
        "sample products": (products(net, batch, dtype, device, training=False), 1),
    }


def seconds(work: Work, repeats: int, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def measure(
    width: int,
    batch: int,
    precisions: Sequence[Precision],
    device: torch.device,
    rounds: int,
    turn_seconds: float,
) -> dict[str, dict[str, np.ndarray]]:
    """precision -> name -> seconds of one step or network call in each round."""
    todo = {
        (precision, name): entry
        for precision in precisions
        for name, entry in works(width, batch, precision, device).items()
    }
    repeats = {}
    for key, (work, _) in todo.items():
        work()
        repeats[key] = max(1, round(turn_seconds / seconds(work, 1, device)))
    times: dict[str, dict[str, list[float]]] = {precision: {} for precision in precisions}
    for round_index in range(rounds):
        keys = list(todo) if round_index % 2 == 0 else list(todo)[::-1]
        for key in keys:
            work, units = todo[key]
            taken = seconds(work, repeats[key], device) / units
            times[key[0]].setdefault(key[1], []).append(taken)
    return {p: {name: np.array(values) for name, values in t.items()} for p, t in times.items()}


def spread(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def rows_of(batch: int, times: dict[str, dict[str, np.ndarray]]) -> list[dict[str, object]]:
    """One record a precision and kind of work: rates, share of the bound, gain over float32."""
    records: list[dict[str, object]] = []
    for precision, taken in times.items():
        for kind, unit, per_call in (
            ("train", "steps/s", 1.0),
            ("sample", "samples/s", batch / PAPER_CALLS),
        ):
            share = taken[f"{kind} products"] / taken[kind]
            gain = times["fp32"][kind] / taken[kind] if "fp32" in times else None
            records.append(
                {
                    "batch": batch,
                    "precision": precision,
                    "work": f"{kind} ({unit})",
                    "rate": spread(per_call / taken[kind]),
                    "products alone": spread(per_call / taken[f"{kind} products"]),
                    "share": float(np.median(share)),
                    "over fp32": None if gain is None else float(np.median(gain)),
                }
            )
    return records


def show(records: list[dict[str, object]], title: str) -> None:
    table = Table(title=title)
    for column in records[0]:
        table.add_column(column, justify="right")
    for record in records:
        share, gain = record["share"], record["over fp32"]
        cells = {**record, "share": f"{share:.0%}", "over fp32": f"{gain:.2f}" if gain else "-"}
        table.add_row(*map(str, cells.values()))
    Console(width=130).print(table)
    for record in records:
        if not str(record["work"]).startswith("train"):
            continue
        where = f"training, batch {record['batch']}, {record['precision']}"
        if record["precision"] == "fp32":
            met = float(record["share"]) >= TARGET_SHARE  # type: ignore[arg-type]
            print(f"{where}: {record['share']:.0%} of the bound, aim {TARGET_SHARE:.0%}:", end=" ")
        elif record["over fp32"] is not None:
            met = float(record["over fp32"]) >= TARGET_BF16  # type: ignore[arg-type]
            print(f"{where}: {record['over fp32']:.2f} x float32, aim {TARGET_BF16}:", end=" ")
        else:
            continue
        print("met" if met else "not met")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n>")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 takes every core")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=float, default=1.0, help="seconds of a turn, about")
    parser.add_argument("--quick", action="store_true", help="3 rounds of short turns")
    parser.add_argument("--json", type=Path, help="write the records here too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.turn = 3, 0.2
    device = resolve_device(arguments.device)
    threads = arguments.threads or available_cpus()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} CPU threads"
    records: list[dict[str, object]] = []
    with cpu_threads(threads):
        for batch in arguments.batches:
            times = measure(
                arguments.width,
                batch,
                arguments.precisions,
                device,
                arguments.rounds,
                arguments.turn,
            )
            records += rows_of(batch, times)
    show(records, f"width {arguments.width}, {name}, torch {torch.__version__}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": name, "records": records}, indent=1))


if __name__ == "__main__":
    main()

"""Updates a second of one process and of several that share the same batches.

    python3 benchmarks/data_parallel.py --processes 4 [--batch 1024] [--precision bf16]

Both train the same model on the same global batch; they take turns, so that whatever else the
machine does falls on both, and the gain is the median of the ratios within a round. Meant for GPUs,
one a process; on a CPU the cores are shared out, and what is left to gain is little.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from synther.diffusion.denoiser_network import ResidualMLPDenoiser
from synther.diffusion.training.trainer import Trainer
from synther.diffusion.utils import construct_diffusion_model
from synther.runs.runtime import cpu_threads
from synther.transitions import TransitionLayout

LAYOUT = TransitionLayout(17, 6)  # HalfCheetah: rows of 42 columns
WARM_UP = 5


def updates_per_second(arguments: argparse.Namespace) -> float:
    """Of this process and those that were started with it."""
    rows = np.random.default_rng(0).normal(size=(10_000, LAYOUT.row_dim)).astype(np.float32)
    model = construct_diffusion_model(
        rows,
        "standard",
        partial(ResidualMLPDenoiser, mlp_width=arguments.width),
        layout=LAYOUT,
    )
    trainer = Trainer(
        model,
        rows,
        small_batch_size=arguments.batch,
        results_folder=None,
        precision=arguments.precision,
        device=arguments.device,
        seed=0,
    )

    def train(updates: int) -> None:
        for _ in range(updates):
            trainer.train_on_batch(trainer.rows.draw(trainer.batch_size))
        float(trainer.training_step.totals.sum())  # waits for the device

    train(WARM_UP)
    started = time.perf_counter()
    train(arguments.updates)
    rate = arguments.updates / (time.perf_counter() - started)
    if trainer.processes.is_first:
        print(json.dumps({"processes": trainer.processes.count, "updates_per_second": rate}))
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return rate


def launched(count: int, words: list[str]) -> float:
    """What ``count`` processes reach."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(count)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0", *(["--multi_gpu"] if count > 1 else [])]
    done = subprocess.run(
        [*launch, str(Path(__file__)), *words, "--measure"], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["processes"] == count, record
    return float(record["updates_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1024, help="of all processes together")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--updates", type=int, default=100, help="in a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        with cpu_threads(0):
            updates_per_second(arguments)
        return
    counts = (1, arguments.processes)
    rates = np.array(
        [[launched(count, sys.argv[1:]) for count in counts] for _ in range(arguments.rounds)]
    )
    for count, rate in zip(counts, np.median(rates, axis=0), strict=True):
        print(f"{count} processes, batch {arguments.batch}: {rate:.3g} updates/s")
    gain = np.median(rates[:, 1] / rates[:, 0])
    print(f"gain {gain:.2f} of {arguments.processes}, torch {torch.__version__}")


if __name__ == "__main__":
    main()

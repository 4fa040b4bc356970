"""Updates a second of DrQ+BC from pictures: eager against compiled, float32 against bf16.

    python3 benchmarks/pixel_speed.py [--device cuda] [--batch 256] [--channels 32] [--rounds 5]

bf16 has the encoder's products in bfloat16 and its channels last. All take turns within each round,
so that whatever else the machine does falls on all alike; gains are medians, over the rounds, of
ratios to eager float32 within a round. Beside them: an update on latents, the second stage's; a
batch out of a mapped file; and a step of the environment, its picture included, where one can be
drawn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from synther.datasets.vd4rl import read_vd4rl, write_vd4rl
from synther.datasets.vd4rl_files import FIRST, LAST, MID
from synther.envs.pixels import PixelEnv, PixelSettings, Rendering
from synther.learning.replay import Batch
from synther.pixels.config import PixelConfig
from synther.pixels.frame_replay import FrameReplay, PixelBatch
from synther.pixels.image_agent import DrQBC
from synther.pixels.latent_agent import LatentAgent
from synther.runs.runtime import available_cpus, cpu_threads, keep_freed_memory, resolve_device

ACTIONS = 6
Work = Callable[[], object]


def pixel_update(config: PixelConfig, device: torch.device) -> Work:
    """One update of the first stage on a fixed batch."""
    agent = DrQBC(config, ACTIONS, torch.Generator().manual_seed(0), device)
    size, count = config.image_size, config.batch_size
    shape = (2, count, 3 * config.frame_stack, size, size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    batch = PixelBatch(
        images[0],
        torch.rand(1, count, ACTIONS, device=device),
        torch.rand(1, count, 1, device=device),
        images[1],
        torch.full((1, count, 1), config.n_step_discount, device=device),
    )
    noise = drawn(agent, device)
    return lambda: agent.update(batch, noise, None)


def latent_update(config: PixelConfig, device: torch.device) -> Work:
    """One update of the second stage on a fixed batch."""
    agent = DrQBC(config, ACTIONS, torch.Generator().manual_seed(0), device)
    tuned = LatentAgent(config, agent, agent.heads)

    def column(width: int) -> Tensor:
        return torch.rand(1, config.batch_size, width, device=device)

    wide = agent.latent_dim
    batch = Batch(column(wide), column(ACTIONS), column(1), column(wide), 0 * column(1))
    noise = drawn(tuned, device)
    return lambda: tuned.update(batch, noise, None)


def drawn(agent: DrQBC | LatentAgent, device: torch.device) -> tuple[Tensor, ...]:
    """The random numbers of one update; only pictures' shifts and normal noise, ``[1, ...]``."""
    return tuple(each for each in agent.noise(torch.Generator(device).manual_seed(0), 1))


def batches(config: PixelConfig, device: torch.device, folder: Path) -> Work:
    """One batch out of a mapped file of 2004 pictures."""
    rows, size = 4 * 501, config.image_size
    step_type = np.full(rows, MID)
    step_type[::501], step_type[500::501] = FIRST, LAST
    columns = {
        "observation": np.zeros((rows, 3, size, size), np.uint8),
        "action": np.zeros((rows, ACTIONS), np.float32),
        "reward": np.zeros(rows, np.float32),
        "discount": np.ones(rows, np.float32),
        "step_type": step_type,
    }
    replay = FrameReplay(
        read_vd4rl([write_vd4rl(folder / "episodes.hdf5", columns, {})]),
        frame_stack=config.frame_stack, n_step=config.n_step, discount=config.discount,
        batch_size=config.batch_size, generator=torch.Generator(), device=device,
    )  # fmt: skip
    return replay.sample


def environment_step(env_id: str, rendering: Rendering) -> Work | None:
    """One action and its picture; None where nothing can draw."""
    try:
        env = PixelEnv(PixelSettings(env_id, rendering=rendering))
        env.reset(seed=0)
    except ImportError:
        return None

    def work() -> None:
        ended = any(env.step(np.zeros(env.action_dim, np.float32))[2:4])
        if ended:
            env.reset(seed=0)

    return work


def seconds_of(work: Work, repeats: int, device: torch.device) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description="Updates a second of DrQ+BC.")
    add = parser.add_argument
    add("--device", default="auto")
    add("--threads", type=int, default=0, help="of the CPU; 0: all cores")
    add("--batch", type=int, default=256)
    add("--channels", type=int, default=32)
    add("--hidden_width", type=int, default=1024)
    add("--env", default="walker-walk-v0", help="of which pictures are drawn")
    add("--rounds", type=int, default=5)
    add("--repeats", type=int, default=None, help="updates in a turn (default: 2, CUDA 50)")
    add("--no_compile", action="store_true", help="the compiler takes a minute or two")
    args = parser.parse_args()
    device = resolve_device(args.device)
    repeats = args.repeats or (50 if device.type == "cuda" else 2)
    base = PixelConfig(
        batch_size=args.batch, channels=args.channels, hidden_width=args.hidden_width
    )
    keep_freed_memory()
    with cpu_threads(args.threads), TemporaryDirectory() as folder:
        works: dict[str, Work] = {}
        for precision in ("fp32", "bf16"):
            for mode in ("off",) if args.no_compile else ("off", "default"):
                name = f"{precision} {'eager' if mode == 'off' else 'compiled'}"
                config = PixelConfig(**{**vars(base), "precision": precision, "compile": mode})
                works[name] = pixel_update(config, device)
        works["latents, fp32 eager"] = latent_update(base, device)
        works["a batch of pictures"] = batches(base, device, Path(folder))
        for rendering in get_args(Rendering):
            if step := environment_step(args.env, rendering):
                works[f"{args.env}, {rendering}"] = step
        for work in works.values():  # compiles, and warms up
            seconds_of(work, 2, device)
        rounds = [
            {name: seconds_of(work, repeats, device) for name, work in works.items()}
            for _ in range(args.rounds)
        ]
    table = Table(
        title=f"DrQ+BC, batch {args.batch}, {args.channels} channels, {_name(device, args.threads)}"
    )
    for heading in ("", "a second", "over eager float32"):
        table.add_column(heading, justify="right" if heading else "left")
    for name in works:
        rate = np.median([1 / each[name] for each in rounds])
        gain = np.median([each["fp32 eager"] / each[name] for each in rounds])
        same_work = name.startswith(("fp32", "bf16"))
        table.add_row(name, f"{rate:.4g}", f"{gain:.2f}" if same_work else "")
    Console().print(table)


def _name(device: torch.device, threads: int) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{threads or available_cpus()} of {available_cpus()} CPU cores"


if __name__ == "__main__":
    main()

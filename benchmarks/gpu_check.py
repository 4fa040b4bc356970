"""Checks everything that this project does on a GPU: first that it is right, then how fast it is.

    python3 benchmarks/gpu_check.py [--quick | --full] [--only PART ...] [--skip PART ...]

It takes at most 10 minutes, 3 with ``--quick`` and 30 with ``--full``. What it finds is written as
it goes, to ``gpu_check.json`` and ``gpu_check.md`` in ``--folder``: a run that is cut off leaves
what it had. It ends with 1 where anything is wrong; speed is never wrong.

Without a GPU, all parts but speed run on the emulated device of the tests:
``python3 -m tests.fake_cuda benchmarks/gpu_check.py --quick --skip speed --skip tests``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from gpu_parts import end_to_end, graphs, machine, memory, parity, resume, speed, tests, waits
from gpu_parts.check import Check

from synther.runs.runtime import resolve_device

PARTS: dict[str, tuple[float, Callable[[Check], None]]] = {
    "machine": (20, machine.run),
    "tests": (tests.SECONDS, tests.run),
    "parity": (80, parity.run),
    "graphs": (40, graphs.run),
    "noise": (10, graphs.fresh_noise),
    "waits": (15, waits.run),
    "resume": (60, resume.run),
    "memory": (25, memory.run),
    "end_to_end": (60, end_to_end.run),
    "speed": (200, speed.run),
}
"""Name -> the seconds that it may take without ``--quick`` and ``--full``, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do the parts; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description="Check a GPU; see the file's first lines.")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_const", const="quick", dest="mode")
    amount.add_argument("--full", action="store_const", const="full", dest="mode")
    for flag, what in (("--only", "do this part alone"), ("--skip", "leave this part out")):
        parser.add_argument(flag, action="append", default=[], choices=PARTS, help=what)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:<n> (default: cuda)")
    folder = Path("benchmarks/results/gpu")
    parser.add_argument("--folder", type=Path, default=folder, help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        device = resolve_device(args.device)
    except ValueError as error:
        parser.error(str(error))
    if device.type != "cuda":
        parser.error(f"--device {args.device}: expected a CUDA device")
    torch.set_num_threads(min(torch.get_num_threads(), 8))
    check = Check(device, args.mode or "normal", args.folder)
    for name, (seconds, run) in PARTS.items():
        if name in (args.only or PARTS) and name not in args.skip:
            check.do(name, seconds, run)
    return int(check.failed)


if __name__ == "__main__":
    sys.exit(main())

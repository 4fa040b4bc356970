"""What the GPU is, how fast it launches work and multiplies, and how fast copies and disk are."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gpu_parts.check import Check
from synther.runs.runtime import autocast, float32_products

QUERY = "driver_version,clocks.sm,clocks.max.sm,power.limit,memory.total,pcie.link.gen.current"


def run(check: Check) -> None:
    """Notes alone, but that the device multiplies."""
    device, small = check.device, check.is_emulated
    check.note("GPU", torch.cuda.get_device_name(device))
    check.note("torch and its CUDA", f"{torch.__version__}, {torch.version.cuda}")
    check.note("CPU cores", os.cpu_count())
    if tool := shutil.which("nvidia-smi"):
        asked = [tool, f"--query-gpu={QUERY}", "--format=csv,noheader", f"--id={device.index}"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
        check.note(QUERY.replace(",", ", "), done.stdout.strip() or done.stderr.strip())
    one = torch.zeros(1, device=device)
    check.note("launch, microseconds", 1e6 * seconds(lambda: one.add_(1), 20 if small else 2000))
    side = 32 if small else 8192
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    for precision in ("fp32", "tf32", "bf16"):
        with float32_products(device, precision), autocast(device, precision):
            taken = seconds(lambda: a @ b, 2 if small else 20)
        check.note(f"products in {precision}, TFLOP/s", 2 * side**3 / taken / 1e12)
    check.expect(bool((a @ b).isfinite().all()), "a product of normal numbers is not finite")
    host = torch.empty(1 << (10 if small else 28), dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device=device)
    for name, work in (
        ("host to device, GB/s", lambda: there.copy_(host, non_blocking=True)),
        ("device to host, GB/s", lambda: host.copy_(there, non_blocking=True)),
    ):
        check.note(name, host.nbytes / seconds(work, 3) / 1e9)
    check.note("disk, MB/s written", _disk(1 << (16 if small else 28)) / 1e6)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Of one call, the device's work included, after a call that does not count."""
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def _disk(size: int) -> float:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        started = time.perf_counter()
        with open(Path(folder) / "written", "wb") as file:
            file.write(os.urandom(1 << 16) * (size >> 16))
            file.flush()
            os.fsync(file.fileno())
        return size / (time.perf_counter() - started)

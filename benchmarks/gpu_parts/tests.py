"""The project's own tests of a GPU, and those that hold on any device, run on this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from gpu_parts.check import Check

ROOT = Path(__file__).parents[2]
SECONDS = 60


def run(check: Check) -> None:
    """One pytest; what it has not come to when its time is over is left out."""
    wanted = "(gpu or any_device) and not slow"
    if check.mode == "quick":
        wanted += " and not compiles"
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--tb=short"]
    log = check.folder / "gpu_tests.log"
    environment = {**os.environ, "SYNTHER_TEST_DEVICE": str(check.device)}
    with open(log, "w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, "-m", wanted, "tests"],
            cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            code: int | None = process.wait(min(2 * check.seconds_left(), 1800))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
    text = log.read_text(encoding="utf-8")
    counts = {word: len(re.findall(rf" {word}\b", text)) for word in ("PASSED", "FAILED", "ERROR")}
    check.note("tests", ", ".join(f"{count} {word.lower()}" for word, count in counts.items()))
    for name in sorted(set(re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE))):
        check.expect(False, f"{name} (see {log.name})")
    check.expect(counts["PASSED"] > 0, f"no test passed (see {log.name})")
    if code is None:
        check.note("cut off", "the tests took twice their time")
    else:
        check.expect(code == 0, f"pytest ended with {code} (see {log.name})")

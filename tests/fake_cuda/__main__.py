"""Runs a script on the emulated device: ``python -m tests.fake_cuda SCRIPT [its arguments]``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from tests.fake_cuda import device

if __name__ == "__main__":
    device.install()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))  # where a script's own modules are
    with device.emulated():
        runpy.run_path(sys.argv[0], run_name="__main__")

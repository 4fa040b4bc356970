"""Runs a script on the emulated device: ``python -m tests.fake_cuda SCRIPT [its arguments]``."""

from __future__ import annotations

import runpy
import sys

from tests.fake_cuda import device

if __name__ == "__main__":
    device.install()
    sys.argv = sys.argv[1:]
    with device.emulated():
        runpy.run_path(sys.argv[0], run_name="__main__")

"""The device of the tests that make sense on any device."""

import os

from synther.runs.runtime import resolve_device

DEVICE = resolve_device(os.environ.get("SYNTHER_TEST_DEVICE", "cpu"))
"""The CPU, or what ``SYNTHER_TEST_DEVICE`` names: ``cuda`` for a GPU, or for the emulated one."""

"""Simulators are imported in this one place, so that the package loads without them."""

from __future__ import annotations

import importlib
import os
import sys
from ctypes.util import find_library
from typing import Any


class MissingSimulatorError(ImportError):
    """A simulator, or what it needs, is not installed; the message says what to install."""


class UnknownEnvironmentError(ValueError):
    """No environment of that name; the message lists the nearest names that exist."""


def require(module: str) -> Any:
    """Import ``module`` (``gymnasium``, ``mujoco``, ``dm_control.suite``, ...).

    Before the first import a headless machine gets a renderer, see ``_choose_renderer``.

    Raises:
        MissingSimulatorError: the module, or a package that it imports, is not there.
    """
    _choose_renderer()
    try:
        return importlib.import_module(module)
    except Exception as error:
        # gymnasium wraps it into an error of its own, which is no ImportError.
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if not isinstance(missing, ModuleNotFoundError):
            raise
        raise MissingSimulatorError(
            f"'{module}' needs the package '{missing.name}', which is not installed: "
            "pip install 'synther[envs]'"
        ) from error


def _choose_renderer() -> None:
    """Set ``MUJOCO_GL`` where it is unset and nothing could open a window.

    dm_control reads it once, at import, and left to itself picks GLFW, which aborts the whole
    process at the first picture on a machine without a display.
    """
    if "MUJOCO_GL" in os.environ or sys.platform != "linux":
        return
    if find_library("EGL"):
        os.environ["MUJOCO_GL"] = "egl"
    elif find_library("OSMesa"):
        os.environ["MUJOCO_GL"] = "osmesa"
    elif "DISPLAY" not in os.environ:
        os.environ["MUJOCO_GL"] = "disabled"  # a picture is then an error, not an abort

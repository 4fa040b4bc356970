"""Simulators are imported in this one place, so that the package loads without them."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from ctypes.util import find_library
from typing import Any

from synther.installed import install_hint

_OFF = ("disabled", "disable", "off", "false", "0")
"""Values of ``MUJOCO_GL`` with which nothing is loaded that draws."""
_OF_RENDERERS = ("/OpenGL/", "/dm_control/_render/", "/gl_context", "/mujoco/osmesa", "/mujoco/egl")


class MissingSimulatorError(ImportError):
    """A simulator, or what it needs, is not installed; the message says what to install."""


class EnvironmentArgumentError(ValueError):
    """An environment does not take an argument that it was given, or not that value."""


class UnknownEnvironmentError(ValueError):
    """No environment of that name; the message lists the nearest names that exist."""


def require(module: str) -> Any:
    """Import ``module`` (``gymnasium``, ``mujoco``, ``dm_control.suite``, ...).

    Before the first import a headless machine gets a renderer, see ``_choose_renderer``; one that
    does not load is done without, see :func:`did_without_renderer`.

    Raises:
        MissingSimulatorError: the module, or a package that it imports, is not there.
    """
    _choose_renderer()
    try:
        return importlib.import_module(module)
    except Exception as error:
        if did_without_renderer(error):
            return importlib.import_module(module)
        # gymnasium wraps it into an error of its own, which is no ImportError.
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if not isinstance(missing, ModuleNotFoundError):
            raise
        raise MissingSimulatorError(
            f"'{module}' needs the package '{missing.name}', which is not installed: "
            f"{install_hint('envs')}"
        ) from error


def did_without_renderer(error: BaseException) -> bool:
    """Whether it was the renderer of ``MUJOCO_GL`` that did not load. It is then switched off, with
    a warning, so that what raised the error can be tried again: most runs draw nothing."""
    asked = os.environ.get("MUJOCO_GL", "")
    if not asked or asked in _OFF or not _is_of_renderer(error):
        return False
    reason = " ".join(str(error).split())
    warnings.warn(
        f"MUJOCO_GL={asked}: this renderer does not load ({reason:.200}); nothing can be drawn, "
        "everything else works",
        stacklevel=3,
    )
    os.environ["MUJOCO_GL"] = _OFF[0]
    return True


def _is_of_renderer(error: BaseException | None) -> bool:
    """Whether an error passed through the modules that load a renderer."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            path = frame.f_code.co_filename.replace(os.sep, "/")
            if any(part in path for part in _OF_RENDERERS):
                return True
        error = error.__cause__ or error.__context__
    return False


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

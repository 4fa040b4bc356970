"""matplotlib is imported here, by all who draw pictures into files.

A notebook hands the name of its backend on to every process that it starts (``MPLBACKEND``), and
matplotlib does not import where this backend is not installed. Files need none of them.
"""

from __future__ import annotations

import contextlib
import os
import sys

if "matplotlib" not in sys.modules and (_backend := os.environ.pop("MPLBACKEND", None)):
    import matplotlib

    os.environ["MPLBACKEND"] = _backend
    with contextlib.suppress(ValueError):  # as matplotlib does, but for one that is not here
        matplotlib.rcParams["backend"] = _backend

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

__all__ = ["Axes", "Figure", "LogLocator", "NullFormatter"]

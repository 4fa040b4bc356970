"""Synthetic Experience Replay: diffusion-upsampled transitions for reinforcement learning."""

import importlib as _importlib
import os as _os
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from synther.runs.interrupts import leave_while_importing as _leave_while_importing

if _TYPE_CHECKING:
    from synther.transitions import Transitions
    from synther.upsampling import FidelityWarning, UpsampleConfig, Upsampler, Verdict, upsample

__version__ = "1.0.0.dev0"

# Threads that wait for each other at the end of every product spin for milliseconds by default. As
# soon as another process holds a core they wait out whole time slices that way, and small networks
# train some thirty times slower. Read when torch loads its OpenMP library, so it must be set first.
_os.environ.setdefault("GOMP_SPINCOUNT", "1000")
_leave_while_importing()  # on Ctrl-C, where the process is a command

__all__ = [
    "FidelityWarning",
    "Transitions",
    "UpsampleConfig",
    "Upsampler",
    "Verdict",
    "upsample",
]


def __getattr__(name: str) -> _Any:
    # Only when asked for: torch takes seconds to import, and not every use of a submodule needs it.
    if name not in __all__:
        raise AttributeError(f"module 'synther' has no attribute '{name}'")
    module = "synther.transitions" if name == "Transitions" else "synther.upsampling"
    return getattr(_importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Builds the device guard with g++, once for each version of torch, and loads it before torch."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")


def obstacle() -> str | None:
    """Why there can be no emulated device here; None where there can."""
    if sys.platform != "linux":
        return "the emulated CUDA device needs Linux"
    if shutil.which("g++") is None:
        return "the emulated CUDA device needs g++ to build its guard (apt-get install g++)"
    if (_torch_folder() / "lib" / "libtorch_cuda.so").exists():
        return "this torch brings CUDA of its own, which leaves no room for an emulated device"
    return None


def load() -> ctypes.CDLL:
    """Load the guard and enter it into torch's registry; to be called before torch is imported.

    Raises:
        ImportError: torch is there already: it would have settled that there is no CUDA.
    """
    if "torch" in sys.modules:
        raise ImportError("the emulated CUDA device has to be loaded before torch is imported")
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(_torch_folder() / "lib" / name), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(_built()), ctypes.RTLD_GLOBAL)
    library.fake_cuda_install()
    return library


def _torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _built() -> Path:
    """The library, out of the cache or built into it."""
    torch = _torch_folder()
    what = f"{torch} {importlib.metadata.version('torch')} {SOURCE.read_text(encoding='utf-8')}"
    root = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "synther"
    library = root / f"fake_cuda-{hashlib.sha256(what.encode()).hexdigest()[:16]}.so"
    if library.exists():
        return library
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        made = Path(folder) / "guard.so"
        command = [
            *("g++", "-O0", "-std=c++20", "-shared", "-fPIC"),
            *(f"-I{torch}/include", f"-I{torch}/include/torch/csrc/api/include"),
            *(str(SOURCE), "-o", str(made)),
            *(f"-L{torch}/lib", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}/lib"),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ImportError(f"{SOURCE} does not compile against {torch}:\n{done.stderr[-2000:]}")
        made.replace(library)  # whole or not at all, whoever builds it at the same time
    return library

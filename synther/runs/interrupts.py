"""Ctrl-C ends a command at whatever moment it comes: while it imports, and inside a callback.

Python raises KeyboardInterrupt wherever the main thread happens to be. While a command imports,
nobody turns it into a message yet. And where the thread is inside a callback that C calls (ctypes,
a destructor), the exception is written down as ignored, and the program goes on.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = Path(__file__).parents[1]
INTERRUPTED = 130
"""The exit code, as a shell's of a program that Ctrl-C ended."""
_SOON = 0.02
"""Seconds until an interrupt that was lost is sent again."""


def leave_while_importing() -> None:
    """Let Ctrl-C end the process with a word and exit code 130, until :func:`kept` takes over.

    This is for the beginning of a command, when nothing is there that would have to be put in
    order. Does nothing where the process is no command of the project, or where Ctrl-C does
    something else than to raise KeyboardInterrupt, as in a background process.
    """
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(*_: object) -> None:
    os.write(2, b"\nstopped\n")
    os._exit(INTERRUPTED)  # an exception would be at the mercy of the module that is imported


def _is_command() -> bool:
    if threading.current_thread() is not threading.main_thread():
        return False
    words = sys.orig_argv
    module = words[words.index("-m") + 1 :][:1] if "-m" in words else []
    if module:
        return module[0].split(".")[0] == PACKAGE.name
    main: ModuleType | None = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not file:
        return False
    return Path(file).stem == PACKAGE.name or PACKAGE in Path(file).resolve().parents


def _send() -> None:
    if hasattr(signal, "pthread_kill"):  # which wakes a thread that waits, too
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt in the main thread, and raises it again where a
    callback lost it."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = sys.unraisablehook

    def lost(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        again = threading.Timer(_SOON, _send)
        again.daemon = True
        again.start()

    sys.unraisablehook = lost
    try:
        yield
    finally:
        sys.unraisablehook = before

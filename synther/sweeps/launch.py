"""This process becomes a command that dies with the process that started it.

    python3 synther/sweeps/launch.py PARENT SCRIPT [ARGUMENT ...]

``PARENT`` is the id of the starting process. A worker that is killed thus leaves nobody behind who
would go on writing to the job's folder. On Linux the kernel ends the command (``prctl``); elsewhere
the job's lock alone keeps a second writer away.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set the signal, then replace this process by the command."""
    parent, *words = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):  # the parent died before the signal was set
            raise SystemExit(1)
    os.execv(sys.executable, [sys.executable, *words])


if __name__ == "__main__":
    main()

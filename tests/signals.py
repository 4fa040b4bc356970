"""What processes that tests start, and the tests themselves, do with signals."""

import signal


def hear_ctrl_c() -> None:
    """Ctrl-C raises KeyboardInterrupt in this process, also where the tests run in the background
    of a shell, which has whatever it starts ignore the signal. Fit for ``preexec_fn``."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

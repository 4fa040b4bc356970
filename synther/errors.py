"""The base of the errors that a person can mend, who gave an input or a setting."""

from __future__ import annotations


class InputError(ValueError):
    """What somebody gave cannot be used; the message says what, why, and what to do.

    A command shows such a message alone. A ValueError of another class comes from deep inside, and
    is a fault of the program: see :func:`synther.runs.commands.command_errors`.
    """

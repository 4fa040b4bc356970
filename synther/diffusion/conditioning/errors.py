"""What can be wrong with a condition, with what is asked for, and with a policy."""

from __future__ import annotations


class ConditionError(ValueError):
    """A condition that cannot be learnt from, or asked for; the message says why."""

"""The short way takes its verdict from the fidelity room, and warns where it is a bad one."""

from synther.diffusion.fidelity.verdict import Verdict, judge

__all__ = ["FidelityWarning", "Verdict", "judge"]


class FidelityWarning(UserWarning):
    """Samples that are not to be trusted; the message says why."""

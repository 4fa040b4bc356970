"""What can be wrong with rows that a model gives."""

from __future__ import annotations


class SamplingError(RuntimeError):
    """The model gave rows that are not finite, or that no last stage can be made for."""


class NothingConsistentError(SamplingError):
    """The regressions know nothing of any row that the model gives: none can be made consistent."""

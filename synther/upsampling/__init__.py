"""The short way: transitions of any kind in, a trained model and new transitions out."""

from synther.upsampling.config import UpsampleConfig
from synther.upsampling.upsampler import Upsampler, upsample
from synther.upsampling.verdict import FidelityWarning, Verdict

__all__ = ["FidelityWarning", "UpsampleConfig", "Upsampler", "Verdict", "upsample"]

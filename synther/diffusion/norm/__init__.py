"""Between data and the space that the model works in."""

from synther.diffusion.norm.affine import MinMaxNormalizer, Normalizer
from synther.diffusion.norm.base import BaseNormalizer
from synther.diffusion.norm.factory import NORMALIZERS, NormalizerType, normalizer_factory
from synther.diffusion.norm.transition_space import TransitionSpace

__all__ = [
    "NORMALIZERS",
    "BaseNormalizer",
    "MinMaxNormalizer",
    "Normalizer",
    "NormalizerType",
    "TransitionSpace",
    "normalizer_factory",
]

"""The model's spaces by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from synther.diffusion.norm.affine import MinMaxNormalizer, Normalizer
from synther.diffusion.norm.base import BaseNormalizer
from synther.diffusion.norm.transition_space import TransitionSpace
from synther.transitions import TransitionLayout

NormalizerType = Literal["standard", "minmax", "transitions"]

NORMALIZERS: dict[str, type[BaseNormalizer]] = {
    "standard": Normalizer,
    "minmax": MinMaxNormalizer,
    "transitions": TransitionSpace,
}


def normalizer_factory(
    normalizer_type: NormalizerType,
    data: Any,
    skip_dims: Iterable[int] = (),
    layout: TransitionLayout | None = None,
) -> BaseNormalizer:
    """The normaliser of that name, fitted to rows ``[N, D]``.

    Args:
        normalizer_type: ``standard`` or ``minmax``, one affine map a column as in 2023; or
            ``transitions``, see :class:`~synther.diffusion.norm.transition_space.TransitionSpace`.
        data: rows.
        skip_dims: columns that are left as they are.
        layout: of the rows; ``transitions`` needs it.

    Raises:
        ValueError: another name, or what the normaliser says.
    """
    if normalizer_type not in NORMALIZERS:
        raise ValueError(
            f"normalizer_type '{normalizer_type}': expected {' or '.join(NORMALIZERS)}"
        )
    if normalizer_type == "transitions":
        return TransitionSpace(data, skip_dims, layout=layout)
    return NORMALIZERS[normalizer_type](data, skip_dims)

"""Action bounds say in which units actions are: they are the environment's lowest and highest one.

Rows hold actions as they were recorded, and their bounds travel beside them, in the metadata of
:class:`synther.transitions.Transitions`. Whoever needs [-1, 1], as agents and ``make_env`` do, maps
from the bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]
KEYS = ("action_low", "action_high")
"""The names of the bounds in metadata, and in files: a number, or one a column."""
NOTHING_DISCRETE = (
    "discrete actions; only continuous ones, float [rows, columns], are modelled (cast them to "
    "float if they are continuous)"
)
"""What every door says of them, after what it found."""
_ROUNDING = 1e-5  # of a span: as much as float32 and a division or two change


class UnusableSpaceError(TypeError):
    """An environment whose observations or actions SynthER has no use for."""


class DiscreteActionsError(UnusableSpaceError):
    """An environment whose actions are discrete."""


@dataclass(frozen=True, eq=False)
class ActionBounds:
    """The lowest and the highest action, float32 ``[A]`` each, the first below the second.

    Args:
        low, high: numbers; :meth:`of` takes one for all columns as well, and checks them.
    """

    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, low: ArrayLike, high: ArrayLike, action_dim: int) -> ActionBounds:
        """Bounds of ``action_dim`` columns from a number each, or one a column.

        Raises:
            ValueError: not such numbers, not finite, or a lower one that is not below the upper.
        """
        both = []
        for key, given in zip(KEYS, (low, high), strict=True):
            try:
                numbers = np.asarray(given, np.float32).reshape(-1)
            except (TypeError, ValueError, OverflowError):
                numbers = np.empty(0, np.float32)
            if len(numbers) not in (1, action_dim) or not np.isfinite(numbers).all():
                raise ValueError(
                    f"'{key}' is {given!r:.80}, expected a finite number, or {action_dim}, one for "
                    "each column of the actions"
                )
            both.append(np.broadcast_to(numbers, (action_dim,)).copy())
        if (wrong := np.flatnonzero(both[0] >= both[1])).size:
            column = wrong[0]
            raise ValueError(
                f"'action_low' of column {column} is {both[0][column]:g}, 'action_high' "
                f"{both[1][column]:g}; the first has to be below the second"
            )
        return cls(*both)

    @classmethod
    def stated(cls, metadata: Mapping[str, Any], action_dim: int) -> ActionBounds | None:
        """The bounds that metadata state; None where they do not.

        Raises:
            ValueError: only one of the two, or as :meth:`of`.
        """
        found: list[Any] = [metadata.get(key) for key in KEYS]
        missing_one = [each is None for each in found]
        if all(missing_one):
            return None
        if any(missing_one):
            there, missing = KEYS if missing_one[1] else KEYS[::-1]
            raise ValueError(f"'{there}' is given and '{missing}' is not; bounds are both")
        return cls.of(found[0], found[1], action_dim)

    @classmethod
    def unit(cls, action_dim: int) -> ActionBounds:
        """[-1, 1] in every column."""
        return cls.of(-1.0, 1.0, action_dim)

    @property
    def is_unit(self) -> bool:
        """Whether they are [-1, 1], so that nothing has to be mapped."""
        return bool((self.low == -1).all() and (self.high == 1).all())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActionBounds) or len(self.low) != len(other.low):
            return False
        gap = _ROUNDING * (self.high - self.low)
        return bool((np.abs(self.low - other.low) <= gap).all()) and bool(
            (np.abs(self.high - other.high) <= gap).all()
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        if (self.low == self.low[0]).all() and (self.high == self.high[0]).all():
            return f"[{self.low[0]:g}, {self.high[0]:g}]"
        text = [", ".join(f"{each:g}" for each in side[:6]) for side in (self.low, self.high)]
        more = ", ..." if len(self.low) > 6 else ""
        return f"[({text[0]}{more}), ({text[1]}{more})]"

    def to_plain(self) -> dict[str, list[float]]:
        """The entries of metadata, in JSON types."""
        return dict(zip(KEYS, (self.low.tolist(), self.high.tolist()), strict=True))

    def to_unit(self, actions: NDArray[Any]) -> FloatArray:
        """Actions ``[..., A]`` in these bounds -> in [-1, 1]; the same where they are that."""
        return self.map(actions, ActionBounds.unit(len(self.low)))

    def map(self, actions: NDArray[Any], other: ActionBounds) -> FloatArray:
        """Actions ``[..., A]`` in these bounds -> in ``other``, each end to its counterpart; the
        same where bounds are the same."""
        values = np.asarray(actions, np.float32)
        if self == other:
            return values
        low, high = (side.astype(np.float64) for side in (self.low, self.high))
        share = (values - low) / (high - low)  # float64, as bounds may be far apart
        to_low, to_high = (side.astype(np.float64) for side in (other.low, other.high))
        mapped: FloatArray = ((1 - share) * to_low + share * to_high).astype(np.float32)
        return mapped

    def outside(self, actions: NDArray[Any], widened: float = 0.0) -> NDArray[np.bool_]:
        """``[N]``, whether an action of a row ``[N, A]`` leaves the bounds, by more than rounding
        and ``widened`` times their span."""
        gap = (self.high.astype(np.float64) - self.low) * (widened + _ROUNDING)
        beyond = (actions < self.low - gap) | (actions > self.high + gap)
        return np.asarray(beyond.any(axis=1))

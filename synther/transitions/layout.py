"""``TransitionLayout`` turns transitions into rows of one array, and rows back into transitions.

A row is ``[observation | action | reward | next_observation | terminal]``, float32, in exactly this
order; the terminal column is there only where terminals are modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from synther.files.float32 import FloatArray
from synther.transitions.arrays import Transitions
from synther.transitions.checks import FIELDS, TransitionError


class _Rows(Protocol):
    """The part of numpy arrays and torch tensors that slicing needs."""

    @property
    def shape(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


RowsT = TypeVar("RowsT", bound=_Rows)


@dataclass(frozen=True)
class TransitionLayout:
    """The layout of a row: its columns hold the fields in this order.

    Args:
        observation_dim: O, the columns of an observation.
        action_dim: A, the columns of an action.
        terminals: whether the last column is the terminal flag.
    """

    observation_dim: int
    action_dim: int
    terminals: bool = True

    def __post_init__(self) -> None:
        if self.observation_dim < 1 or self.action_dim < 1:
            raise ValueError(f"a layout needs one column or more of observation and action: {self}")

    @classmethod
    def of(cls, transitions: Transitions, *, terminals: bool = True) -> TransitionLayout:
        return cls(transitions.observation_dim, transitions.action_dim, terminals)

    @property
    def row_dim(self) -> int:
        """Columns of a row: ``2 O + A + 1``, and one more where terminals are modelled."""
        return 2 * self.observation_dim + self.action_dim + 1 + int(self.terminals)

    @property
    def columns(self) -> dict[str, slice]:
        """Field name -> its columns, in row order; ``terminals`` only where modelled."""
        widths = [
            self.observation_dim,
            self.action_dim,
            1,
            self.observation_dim,
            int(self.terminals),
        ]
        stops = np.cumsum(widths).tolist()
        return {
            name: slice(stop - width, stop)
            for name, width, stop in zip(FIELDS, widths, stops, strict=True)
            if width
        }

    @property
    def column_names(self) -> list[str]:
        """One readable name a column, such as ``observations[3]`` or ``rewards``."""
        names = []
        for name, where in self.columns.items():
            width = where.stop - where.start
            names += (
                [name]
                if name in ("rewards", "terminals")
                else [f"{name}[{i}]" for i in range(width)]
            )
        return names

    def pack(self, transitions: Transitions) -> FloatArray:
        """Transitions -> rows ``[N, row_dim]`` float32."""
        found = (transitions.observation_dim, transitions.action_dim)
        if found != (self.observation_dim, self.action_dim):
            raise TransitionError(
                f"{transitions.source}: {found[0]} observation and {found[1]} action columns, the "
                f"layout has {self.observation_dim} and {self.action_dim}"
            )
        rows = np.empty((len(transitions), self.row_dim), np.float32)
        for name, where in self.columns.items():
            width = where.stop - where.start
            rows[:, where] = getattr(transitions, name).reshape(len(transitions), width)
        return rows

    def split(self, rows: RowsT) -> dict[str, RowsT]:
        """Views of the columns of rows ``[..., row_dim]``, each ``[..., width]``."""
        self._check_width(rows)
        return {name: rows[..., where] for name, where in self.columns.items()}

    def unpack(
        self,
        rows: NDArray[Any],
        *,
        terminal_threshold: float = 0.5,
        metadata: Mapping[str, Any] | None = None,
        source: str = "rows",
    ) -> Transitions:
        """Rows ``[N, row_dim]`` -> Transitions; no terminal is set where they are not modelled."""
        fields = self.split(rows)
        if "terminals" in fields:
            flags = fields["terminals"]
            # A NaN stays one, to be refused like any other: compared, it would pass for a 0.
            fields["terminals"] = np.where(np.isnan(flags), flags, flags > terminal_threshold)
        else:
            fields["terminals"] = np.zeros(len(rows), np.float32)
        return Transitions.from_arrays(fields, metadata=metadata, source=source)

    def _check_width(self, rows: _Rows) -> None:
        if rows.shape[-1] != self.row_dim:
            raise TransitionError(
                f"rows have {rows.shape[-1]} columns, the layout has {self.row_dim}: observation "
                f"{self.observation_dim} + action {self.action_dim} + reward 1 + next observation "
                f"{self.observation_dim} + terminal {int(self.terminals)}"
            )

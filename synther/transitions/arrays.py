"""``Transitions`` are five arrays, checked once when they are made."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synther.action_bounds import KEYS as BOUNDS
from synther.action_bounds import ActionBounds
from synther.files import npz
from synther.files.float32 import FloatArray
from synther.transitions.checks import FIELDS, TransitionError, as_float32
from synther.transitions.text import mapping_hint, summary


@dataclass(frozen=True, eq=False, repr=False)
class Transitions:
    """N transitions, checked once, here.

    Args:
        observations: ``[N, O]``.
        actions: ``[N, A]``.
        rewards: ``[N]`` (``[N, 1]`` is taken as well).
        next_observations: ``[N, O]``.
        terminals: ``[N]``, 0 or 1.
        metadata: where the data came from, in JSON types (``env_id``, ``source``, ...). It travels
            with the arrays, into files and out of them. ``action_low`` and ``action_high``, a
            number each or one a column, are the environment's lowest and highest action in the
            units of these rows, see :attr:`action_bounds`.
        source: a name for error messages, such as the file's path.
        timeouts: ``[N]``, 1 where the episode was cut off after the row, so that rows in their
            order tell their episodes; never set at a terminal. None where it is not known.

    All five arrays are stored as C-contiguous float32, ``timeouts`` as bool. A warning names the
    columns that lose what makes their rows different (see :mod:`synther.files.float32`).

    Raises:
        TransitionError: a wrong shape or type, discrete actions (known by their type: whole
            numbers), lengths that differ, a value that is not finite, a terminal other than 0 and
            1, or action bounds that are none.
    """

    observations: FloatArray
    actions: FloatArray
    rewards: FloatArray
    next_observations: FloatArray
    terminals: FloatArray
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="transitions", repr=False)
    timeouts: NDArray[np.bool_] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in self._held():
            array = as_float32(getattr(self, name), name, self.source)
            object.__setattr__(self, name, array)
        self._check_lengths()
        self._check_values()
        if (bounds := self.action_bounds) is not None:
            object.__setattr__(self, "metadata", {**self.metadata, **bounds.to_plain()})
        if self.timeouts is not None:
            cut_off = (self.timeouts > 0) & (self.terminals == 0)
            object.__setattr__(self, "timeouts", cut_off)
        if np.signbit(self.terminals).any():  # -0. is 0., and looks like a mistake
            object.__setattr__(self, "terminals", self.terminals + np.float32(0))

    def _held(self) -> tuple[str, ...]:
        """The names of the arrays that are there."""
        return FIELDS if self.timeouts is None else (*FIELDS, "timeouts")

    def _check_lengths(self) -> None:
        for name in self._held():
            if len(getattr(self, name)) != len(self.observations):
                raise TransitionError(
                    f"{self.source}: '{name}' has {len(getattr(self, name))} rows, 'observations' "
                    f"has {len(self.observations)}; all five arrays need one length"
                )
        if self.next_observations.shape != self.observations.shape:
            raise TransitionError(
                f"{self.source}: 'next_observations' has {self.next_observations.shape[1]} "
                f"columns, 'observations' has {self.observations.shape[1]}; they need as many"
            )

    def _check_values(self) -> None:
        for name in FIELDS:
            array: FloatArray = getattr(self, name)
            finite = np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
            bad_rows = np.flatnonzero(~finite)
            if bad_rows.size:
                raise TransitionError(
                    f"{self.source}: '{name}' is not finite in {bad_rows.size} of {len(array)} "
                    f"rows, first in row {bad_rows[0]}: {array[bad_rows[0]]}; "
                    "remove or repair those rows"
                )
        for name in self._held()[4:]:
            flags = getattr(self, name)
            fractions = np.flatnonzero((flags != 0) & (flags != 1))
            if fractions.size:
                raise TransitionError(
                    f"{self.source}: '{name}' in row {fractions[0]} is {flags[fractions[0]]}, "
                    "expected 0 or 1; threshold it, at 0.5 say"
                )

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, ArrayLike],
        *,
        metadata: Mapping[str, Any] | None = None,
        source: str = "transitions",
    ) -> Transitions:
        """Build from a mapping that holds the five names of ``FIELDS``, and ``timeouts``,
        ``action_low`` and ``action_high`` if it likes; other keys are ignored."""
        _require_names(arrays, source)
        five = {name: np.asarray(arrays[name]) for name in FIELDS}
        known: Any = arrays.get("timeouts")
        bounds = {key: np.asarray(arrays[key]).tolist() for key in BOUNDS if key in arrays}
        described = {**bounds, **(metadata or {})}
        return cls(**five, metadata=described, source=source, timeouts=known)

    def __repr__(self) -> str:
        return summary(self)

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def observation_dim(self) -> int:
        return int(self.observations.shape[1])

    @property
    def action_dim(self) -> int:
        return int(self.actions.shape[1])

    @property
    def action_bounds(self) -> ActionBounds | None:
        """The lowest and the highest action of the environment, in the units of these rows; None
        where nobody has said."""
        try:
            return ActionBounds.stated(self.metadata, self.action_dim)
        except ValueError as error:
            raise TransitionError(f"{self.source}: in its metadata {error}") from None

    def arrays(self) -> dict[str, FloatArray]:
        """The five arrays by name, in the order of ``FIELDS``."""
        return {name: getattr(self, name) for name in FIELDS}

    def subset(self, rows: slice | Sequence[int] | NDArray[Any]) -> Transitions:
        """The chosen rows: a slice, indices, or a boolean mask of length N.

        Rows that are not a slice are no longer known to follow each other: ``timeouts`` are gone.
        """
        chosen: dict[str, Any] = {name: array[rows] for name, array in self.arrays().items()}
        in_order = isinstance(rows, slice) and rows.step in (None, 1)
        known = None if self.timeouts is None or not in_order else self.timeouts[rows]
        return replace(self, **chosen, timeouts=known)

    def split(self, fraction: float, seed: int) -> tuple[Transitions, Transitions]:
        """Two disjoint random parts; the second holds ``fraction`` of the rows, at least one."""
        kept, held_out = self.split_rows(fraction, seed)
        return self.subset(kept), self.subset(held_out)

    def split_rows(self, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of the rows of both parts of :meth:`split`, in rising order."""
        if not 0 < fraction < 1 or len(self) < 2:
            raise ValueError(f"cannot hold out {fraction} of {len(self)} rows")
        order = np.random.default_rng(seed).permutation(len(self))
        held_out = min(max(1, round(fraction * len(self))), len(self) - 1)
        return np.sort(order[held_out:]), np.sort(order[:held_out])

    @staticmethod
    def concatenate(parts: Sequence[Transitions]) -> Transitions:
        """All rows of all parts, in order; metadata is kept where every part agrees on it.

        ``timeouts`` are kept where every part has them; the end of a part is one.

        Raises:
            TransitionError: parts of other columns, or of actions in other units.
        """
        if not parts:
            raise ValueError("nothing to concatenate")
        for part in parts[1:]:
            if (part.observation_dim, part.action_dim) != (
                parts[0].observation_dim,
                parts[0].action_dim,
            ):
                raise TransitionError(
                    f"{part.source}: {part.observation_dim} observation and {part.action_dim} "
                    f"action columns, but {parts[0].source} has {parts[0].observation_dim} and "
                    f"{parts[0].action_dim}"
                )
        stated = [(part, bounds) for part in parts if (bounds := part.action_bounds)]
        for part, bounds in stated[1:]:
            if bounds != stated[0][1]:
                raise TransitionError(
                    f"{part.source}: actions in the units of {bounds}, but {stated[0][0].source} "
                    f"has them in {stated[0][1]}; bring them into the same with "
                    "synther.datasets.in_action_bounds"
                )
        shared = {
            key: value
            for key, value in parts[0].metadata.items()
            if all(key in part.metadata and part.metadata[key] == value for part in parts)
        }
        five = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS}
        cut_off: list[NDArray[np.bool_]] = []
        for part in parts:
            if part.timeouts is not None:
                cut_off.append(part.timeouts.copy())
                cut_off[-1][-1:] = True
        known = np.concatenate(cut_off) if len(cut_off) == len(parts) else None
        source = " + ".join(part.source for part in parts)
        return Transitions(**five, metadata=shared, source=source, timeouts=known)

    def statistics(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Per field: mean, std (population), min, max, each one number a column."""
        if len(self) == 0:
            raise TransitionError(f"{self.source}: no rows, so no statistics")
        table = {}
        for name, array in self.arrays().items():
            columns = array.reshape(len(array), -1).astype(np.float64)
            table[name] = {
                "mean": columns.mean(axis=0),
                "std": columns.std(axis=0),
                "min": columns.min(axis=0),
                "max": columns.max(axis=0),
            }
        return table

    def save(self, path: str | os.PathLike[str], *, compress: bool = False) -> Path:
        """Write an ``.npz`` with the five names, and, if there are any, ``timeouts`` and, as JSON
        text, ``metadata``.

        The file appears whole or not at all.
        """
        contents: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in self._held()}
        if self.metadata:
            contents["metadata"] = np.array(json.dumps(dict(self.metadata)))
        return npz.write(path, contents, compress=compress)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, limit: int | None = None) -> Transitions:
        """Read an ``.npz`` with the five names, whole or its first ``limit`` rows.

        Nothing in the file is ever executed.

        Raises:
            FileNotFoundError: no such file.
            TransitionError: not an ``.npz``, truncated, an array missing or not numeric, or not
                transitions.
        """
        source = str(path)
        try:
            arrays = npz.read(path, (*FIELDS, "timeouts"), limit=limit)
            said = npz.read(path, ("metadata", *BOUNDS))
            metadata = json.loads(str(said.pop("metadata", "{}")))
        except npz.NpzError as error:
            raise TransitionError(str(error)) from error
        except MemoryError as error:
            raise TransitionError(f"{source}: an array does not fit in memory ({error})") from error
        except (ValueError, RecursionError) as error:
            raise TransitionError(f"{source}: 'metadata' is not JSON text ({error})") from error
        if not arrays.keys() >= set(FIELDS):
            _require_names(npz.names(path), source)
        if not isinstance(metadata, dict):
            raise TransitionError(f"{source}: 'metadata' is {metadata!r}, expected a JSON object")
        return cls.from_arrays({**arrays, **said}, metadata=metadata, source=source)


def _require_names(found: Collection[str], source: str) -> None:
    if missing := [name for name in FIELDS if name not in found]:
        raise TransitionError(
            f"{source}: missing {', '.join(map(repr, missing))}; found "
            f"{', '.join(map(repr, sorted(found))) or 'nothing'}, expected the five arrays "
            f"{FIELDS}{mapping_hint(missing, found)}"
        )

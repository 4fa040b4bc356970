"""Model space of transitions: next observations as differences, each column by its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, NamedTuple, get_args

import gin
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.diffusion.norm.base import BaseNormalizer
from synther.diffusion.norm.column_kinds import (
    KINDS,
    Column,
    ColumnKind,
    ColumnMap,
    as_buffers,
    kind_of,
    map_of,
)
from synther.diffusion.norm.tables import (
    Pieces,
    Table,
    decoder,
    encoder,
    log_slopes,
    matched,
)
from synther.ranges import Place, Range, checked
from synther.transitions import TransitionLayout

Differences = Literal["narrower", "all", "none"]

NUM_KNOTS = 256
"""Of a column's table, where nothing else is said."""
NARROWER = 0.7
"""A next observation is modelled as its difference where that spreads less by this factor."""


class _Derived(NamedTuple):
    """What follows from the state, on the device where it is used.

    Args:
        divisor, log_slopes: ``[D]``, of the affine maps.
        where: the columns that have tables.
        pieces: encoding, decoding and log-slopes of these; empty where there are none.
    """

    divisor: Tensor
    log_slopes: Tensor
    where: Tensor
    pieces: tuple[Pieces, ...]

    def by_table(self, function: int, x: Tensor, affine: Tensor) -> Tensor:
        """``affine [..., D]`` with the columns that have tables replaced by function number
        ``function`` of ``pieces`` at ``x [..., D]``, in place."""
        if self.pieces:
            columns = x[..., self.where].reshape(-1, len(self.where)).t().contiguous()
            found = self.pieces[function](columns).t()
            affine[..., self.where] = found.reshape(*x.shape[:-1], len(self.where))
        return affine


@gin.configurable
class TransitionSpace(BaseNormalizer):
    """A composition of two invertible maps: next observations become differences, then each column
    is mapped by its kind.

    1. *Difference*: ``next_observation - observation``, column by column, where that is constant or
       spreads less than ``NARROWER`` times as much as the next observation. A next observation that
       is constant stays, and so does a discrete one whose difference is not constant.
    2. *Columns*: each has a kind, which :func:`synther.diffusion.norm.column_kinds.kind_of` finds
       in the data that the map is fitted to: ``constant``, ``discrete``, ``quantile``, ``mixed`` or
       ``standard``; ``minmax``, the range to [-1, 1], can be chosen.

    Back in the data, constant columns are exact, discrete ones have values that were seen, bounded
    ones end where the data do, also where they come from a difference, whole numbers are whole, and
    a column's spread is that of the data however small it is. What a bounded column's value lies
    beyond the data, and what a discrete one's differs from the values seen, or a whole one's from
    the nearest whole number, is lost: the map is invertible on the rest.

    Args:
        data: rows ``[N, D]`` of ``layout``.
        skip_dims: columns that the map leaves as they are, a next observation no difference.
        layout: of the rows, or its fields by name.
        kinds: of columns for which the kind is not to be found in the data, by field or by column:
            ``{"actions": "minmax", "observations[3]": "standard"}``. A constant column stays one.
        differences: ``narrower``, as said above; ``all`` or ``none`` of the next observations.
        num_knots: of a column's table, at least 16; half as many values are a discrete column's at
            most.

    Raises:
        ValueError: no layout, rows of another width, a kind or column that does not exist, or a
            discrete column of too many values.
    """

    kind: Tensor
    offset: Tensor
    scale: Tensor
    lowest: Tensor
    highest: Tensor
    whole: Tensor
    difference: Tensor
    values: Tensor
    latents: Tensor
    decoding: Tensor
    knots: Tensor
    slopes: Tensor

    @checked
    def __init__(
        self,
        data: Any,
        skip_dims: Iterable[Place] = (),
        layout: TransitionLayout | Mapping[str, Any] | None = None,
        kinds: Mapping[str, ColumnKind] | None = None,
        differences: Differences = "narrower",
        num_knots: Annotated[int, Range(16, 1_000_000)] = NUM_KNOTS,
    ) -> None:
        if layout is None:
            raise ValueError(
                "normalizer_type 'transitions' needs to know which column is what: give the layout "
                "of the rows, or take 'standard' or 'minmax'"
            )
        self.layout = TransitionLayout(**layout) if isinstance(layout, Mapping) else layout
        self.kinds: dict[str, ColumnKind] = dict(kinds or {})
        self.differences, self.num_knots = differences, num_knots
        _check_choices(self.layout, self.kinds, differences, num_knots)
        self._derived: _Derived | None = None
        super().__init__(data, skip_dims)

    def normalize(self, x: Tensor) -> Tensor:
        x = self._with_differences(x)
        derived = self._derive(x)
        return derived.by_table(0, x, (x - self.offset) / derived.divisor)

    def unnormalize(self, x: Tensor) -> Tensor:
        y = self._derive(x).by_table(1, x, x * self.scale + self.offset)
        y = torch.where(self.whole > 0, y.round(), y)
        before, after = self._observations
        y[..., after] += y[..., before] * self.difference
        return y.clamp(self.lowest, self.highest)

    def log_determinant(self, x: Tensor) -> Tensor:
        """At rows ``[..., D]``, ``[...]``. An atom, and a discrete column's value, counts with the
        width of its cell, a constant column not at all; a difference changes no volume."""
        x = self._with_differences(x)
        derived = self._derive(x)
        slopes = derived.log_slopes.repeat(*x.shape[:-1], 1)
        return derived.by_table(2, x, slopes).sum(dim=-1)

    @property
    def has_bounded(self) -> bool:
        """Whether a column is bounded, such as an action."""
        return any(self._is_bounded(int(number)) for number in self.knots.nonzero())

    @torch.no_grad()
    def match_bounded(self, rows: Tensor, samples: Tensor) -> None:
        """Give a model's samples the distribution that bounded columns have in the data.

        A trained model's distribution in model space is not quite the data's: actions that sit at
        their bounds in 36 % of the rows came back at them in 38 %. Decoding makes up for that, see
        :func:`synther.diffusion.norm.tables.matched`; encoding and log-determinant stay. Discrete
        columns are left alone: between their values lie no samples, and a cut that moves until the
        rate is right tears flags from the rows that they belong to.

        Args:
            rows: ``[N, D]`` that the map was fitted to; on any device.
            samples: ``[M, D]`` of the model, in model space.
        """
        for number in map(int, self.knots.nonzero()):
            if self._is_bounded(number):
                # A column at a time: all rows may be too many for the device, or for three copies.
                column, drawn = self._modelled(rows, number), samples[:, number]
                found = matched(self._table(number), column.cpu().double(), drawn.cpu().double())
                self.decoding[number, : len(found)] = found.to(self.decoding)
        self._derived = None

    def _is_bounded(self, number: int) -> bool:
        return KINDS[int(self.kind[number])] == "quantile"

    @property
    def dim(self) -> int:
        return self.layout.row_dim

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "layout": asdict(self.layout),
            "kinds": dict(self.kinds),
            "differences": self.differences,
            "num_knots": self.num_knots,
        }

    @property
    def column_kinds(self) -> dict[str, str]:
        """Of each column by name, as fitted: such as ``standard``, ``difference, standard`` or
        ``skipped``."""
        after = self.layout.columns["next_observations"].start
        found = {}
        for number, name in enumerate(self.layout.column_names):
            kind: str = KINDS[int(self.kind[number])]
            if name.startswith("next_observations") and self.difference[number - after] == 1:
                kind = f"difference, {kind}"
            found[name] = "skipped" if number in self.skip_dims else kind
        return found

    @property
    def _observations(self) -> tuple[slice, slice]:
        """Columns of the observation, and of the next one."""
        return self.layout.columns["observations"], self.layout.columns["next_observations"]

    def _modelled(self, rows: Tensor, number: int) -> Tensor:
        """A column of ``rows`` ``[N, D]`` as the tables have it, its difference taken: ``[N]``."""
        before, after = self._observations
        place = number - after.start
        column = rows[:, number]
        if 0 <= place < self.layout.observation_dim and self.difference[place]:
            return column - rows[:, before.start + place]
        return column

    def _with_differences(self, x: Tensor) -> Tensor:
        before, after = self._observations
        x = x.clone()
        x[..., after] -= x[..., before] * self.difference
        return x

    def _derive(self, like: Tensor) -> _Derived:
        known = self._derived
        if known is None or known.divisor.dtype != like.dtype or known.where.device != like.device:
            self._derived = known = self._derived_for(like)
        return known

    def _derived_for(self, like: Tensor) -> _Derived:
        where = self.knots.nonzero().flatten()
        tables = [self._table(int(number)) for number in where]
        back = [self._table(int(number), self.decoding) for number in where]
        functions = ((encoder, tables), (decoder, back), (log_slopes, tables)) if tables else ()
        scale = self.scale.to(like)
        return _Derived(
            divisor=torch.where(scale == 0, torch.inf, scale),
            log_slopes=-torch.where(scale == 0, 1, scale).log(),
            where=where.to(like.device),
            pieces=tuple(
                Pieces.stack([function(table) for table in each], like)
                for function, each in functions
            ),
        )

    def _table(self, number: int, places: Tensor | None = None) -> Table:
        own = slice(int(self.knots[number]))
        values = self.values[number, own]
        latents = (self.latents if places is None else places)[number, own]
        below, above = self.slopes[number].tolist()
        return Table(values.double().cpu(), latents.double().cpu(), below, above)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], *arguments: Any, **options: Any
    ) -> None:
        complete_state(state_dict)
        super()._load_from_state_dict(state_dict, *arguments, **options)
        self._derived = None

    def _fit(self, rows: Tensor) -> dict[str, Tensor]:
        if rows.shape[1] != self.dim:
            raise ValueError(f"data has {rows.shape[1]} columns, {self.layout} has {self.dim}")
        self._derived = None
        columns = rows.float().cpu().numpy().T
        before, after = self._observations
        difference = torch.zeros(self.layout.observation_dim)
        maps = []
        for number, name in enumerate(self.layout.column_names):
            if number in self.skip_dims:
                maps.append(ColumnMap("standard"))
                continue
            found = self._map_of(name, columns[number])
            place = number - after.start
            if 0 <= place < self.layout.observation_dim:
                change = self._map_of(name, columns[number] - columns[before.start + place])
                if self._takes_difference(found, change):
                    difference[place] = 1
                    found = change._replace(lowest=found.lowest, highest=found.highest)
            maps.append(found)
        return {**as_buffers(maps, self.num_knots), "difference": difference}

    def _map_of(self, name: str, values: NDArray[np.float32]) -> ColumnMap:
        """The map of a column, of the kind that was chosen for it or is found."""
        column = Column.of(values)
        chosen = self.kinds.get(name, self.kinds.get(name.split("[")[0]))
        try:
            return map_of(column, chosen or kind_of(column, self.num_knots), self.num_knots)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _takes_difference(self, itself: ColumnMap, change: ColumnMap) -> bool:
        if self.differences != "narrower":
            return self.differences == "all"
        if change.kind == "constant":
            return itself.kind != "constant"
        narrower = change.spread < NARROWER * itself.spread
        return narrower and itself.kind not in ("constant", "discrete")


def complete_state(state: dict[str, Any]) -> None:
    """Add to a state, of a map or of models that have one, what older files lack: decoding is as
    encoding is, and no column is rounded to whole numbers."""
    for name in [
        each for each in state if each == "latents" or each.endswith("normalizer.latents")
    ]:
        where = name.removesuffix("latents")
        state.setdefault(where + "decoding", state[name])
        state.setdefault(where + "whole", torch.zeros_like(state[where + "offset"]))


def _check_choices(
    layout: TransitionLayout, kinds: Mapping[str, str], differences: str, num_knots: int
) -> None:
    names = [*layout.columns, *layout.column_names]
    choices = [kind for kind in KINDS if kind != "constant"]
    for name, kind in kinds.items():
        if name not in names:
            raise ValueError(f"kinds names '{name}', the columns are {', '.join(names)}")
        if kind not in choices:
            raise ValueError(f"kind '{kind}' of {name}: expected one of {', '.join(choices)}")
    if differences not in get_args(Differences):
        expected = ", ".join(get_args(Differences))
        raise ValueError(f"differences '{differences}': expected one of {expected}")
    if num_knots < 16:
        raise ValueError(f"num_knots is {num_knots}, expected 16 or more")

"""What kind of column it is, and the map that suits it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.diffusion.norm.tables import Table

ColumnKind = Literal["discrete", "quantile", "mixed", "standard", "minmax", "constant"]
KINDS: tuple[ColumnKind, ...] = get_args(ColumnKind)

ROWS_A_VALUE = 10
"""A column is discrete where each of its values occurs in that many rows on average."""
END_SHARE = 0.005
"""A column is bounded where that share of the rows lies in the outer hundredth of its range."""
LONGEST_TAIL = 4.5
"""And where it does not reach further than that from its mean, in standard deviations."""
MIXED_SHARE = 0.01
"""A column is mixed where one value has that share of the rows."""
ATOM_SHARE = 5e-4
"""A value that so many of the rows of a quantile or mixed column have is an atom."""
FINITE = torch.finfo(torch.float32).max
"""In place of infinity: averages of the state, which EMA takes, have to stay numbers."""
WHOLE = 2.0**24
"""Up to here float32 holds every whole number."""
CELL = 0.5
"""Of an atom of a mixed column, its room in model space, in standard deviations."""


class Column(NamedTuple):
    """A column of data by its distinct values.

    Args:
        values: ``[m]`` float64, in rising order.
        shares: ``[m]`` float64, of the rows that have each.
        rows: how many there are.
        mean, std: of the column, std with Bessel's correction.
    """

    values: Tensor
    shares: Tensor
    rows: int
    mean: float
    std: float

    @classmethod
    def of(cls, column: NDArray[np.float32]) -> Column:
        """Of ``[N]``."""
        ordered = np.sort(column)
        first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        counts = np.diff(np.append(first, len(ordered)))
        wide = ordered.astype(np.float64)
        return cls(
            torch.from_numpy(wide[first]),
            torch.from_numpy(counts / len(ordered)),
            len(ordered),
            float(wide.mean()),
            float(wide.std(ddof=1)) if len(first) > 1 else 0.0,
        )

    @property
    def is_constant(self) -> bool:
        return len(self.values) == 1


def kind_of(column: Column, num_knots: int) -> ColumnKind:
    """The map that suits a column, by what is seen in its data.

    - ``constant``: one value.
    - ``discrete``: few values, such as a flag, a counter or the terminal: no more than half as many
      as there are knots, and each in ``ROWS_A_VALUE`` rows on average.
    - ``quantile``: bounded, such as an action or a velocity that the environment clips: the outer
      hundredth of its range, at one end at least, holds ``END_SHARE`` of the rows or more, and
      neither end is further from the mean than ``LONGEST_TAIL`` standard deviations.
    - ``mixed``: continuous but for a value, such as the reward 0, that ``MIXED_SHARE`` of the rows
      or more have.
    - ``standard``: any other. Quantiles would make heavy tails short, which pleases a classifier
      and costs accuracy: an error in model space is then a large one in the data.
    """
    if column.is_constant:
        return "constant"
    if _is_few(column, num_knots) and column.rows >= ROWS_A_VALUE * len(column.values):
        return "discrete"
    low, high = column.values[0], column.values[-1]
    margin = 0.01 * (high - low)
    ends = (column.values <= low + margin, column.values >= high - margin)
    share = max(float(column.shares[end].sum()) for end in ends)
    tail = max(float(high) - column.mean, column.mean - float(low)) / column.std
    if share >= END_SHARE and tail <= LONGEST_TAIL:
        return "quantile"
    return "mixed" if float(column.shares.max()) >= MIXED_SHARE else "standard"


class ColumnMap(NamedTuple):
    """The map of one column: by a table, or ``y = (x - offset) / scale`` where there is none.

    Args:
        kind: of the column.
        offset, scale: 0 of a constant column's scale.
        table: of a discrete, quantile or mixed column.
        lowest, highest: bounds of the column, infinite where it has none.
        spread: its standard deviation.
        whole: 1 where all its values are whole numbers, else 0.
    """

    kind: ColumnKind
    offset: float = 0.0
    scale: float = 1.0
    table: Table | None = None
    lowest: float = -math.inf
    highest: float = math.inf
    spread: float = 0.0
    whole: float = 0.0


def map_of(column: Column, kind: ColumnKind, num_knots: int) -> ColumnMap:
    """The map of that kind fitted to a column, its table of at most ``num_knots`` knots.

    Raises:
        ValueError: too many values for a discrete column.
    """
    return _map_of(column, kind, num_knots)._replace(whole=float(is_whole(column.values)))


def is_whole(values: Tensor) -> bool:
    """Whether all values are whole numbers, of those that float32 tells apart."""
    return bool(((values == values.round()) & (values.abs() <= WHOLE)).all())


def _map_of(column: Column, kind: ColumnKind, num_knots: int) -> ColumnMap:
    low, high, spread = float(column.values[0]), float(column.values[-1]), column.std
    if column.is_constant:
        return ColumnMap("constant", low, 0.0, None, low, high)
    if kind == "standard":
        return ColumnMap(kind, column.mean, column.std, spread=spread)
    if kind == "minmax":
        return ColumnMap(kind, (low + high) / 2, (high - low) / 2, None, low, high, spread)
    makers = {"discrete": _discrete, "quantile": _quantile, "mixed": _mixed}
    table = makers[kind](column, num_knots)
    lowest, highest = -math.inf if table.below else low, math.inf if table.above else high
    return ColumnMap(kind, table=table, lowest=lowest, highest=highest, spread=spread)


def as_buffers(maps: list[ColumnMap], num_knots: int) -> dict[str, Tensor]:
    """The state of the columns' maps, of shapes that do not depend on what they are."""

    def numbers(name: str) -> Tensor:
        return torch.tensor([float(getattr(each, name)) for each in maps]).clamp(-FINITE, FINITE)

    values, latents = torch.zeros(2, len(maps), num_knots)
    knots, slopes = torch.zeros(len(maps), dtype=torch.long), torch.zeros(len(maps), 2)
    for number, each in enumerate(maps):
        if each.table is not None:
            count = len(each.table.values)
            values[number, :count], latents[number, :count] = each.table[:2]
            knots[number], slopes[number] = count, torch.tensor(each.table[2:])
    kinds = torch.tensor([KINDS.index(each.kind) for each in maps])
    tables = {"values": values, "latents": latents, "knots": knots, "slopes": slopes}
    named = {name: numbers(name) for name in ("offset", "scale", "lowest", "highest", "whole")}
    return {"kind": kinds, **named, **tables, "decoding": latents.clone()}


def _is_few(column: Column, num_knots: int) -> bool:
    return 2 * len(column.values) <= num_knots


def _discrete(column: Column, num_knots: int) -> Table:
    """Values at equal distances, in their order, with mean 0 and standard deviation 1; decoding
    gives the nearest one."""
    if not _is_few(column, num_knots):
        raise ValueError(
            f"{len(column.values)} distinct values, with num_knots {num_knots} a discrete column "
            f"has {num_knots // 2} at most"
        )
    ranks = torch.arange(len(column.values), dtype=torch.float64)
    cells = torch.stack([ranks - 0.5, ranks + 0.5], dim=1)
    cells = _standardised(cells, column.shares)[0]
    return Table(column.values.repeat_interleave(2), cells.flatten())


def _quantile(column: Column, num_knots: int) -> Table:
    """The empirical distribution function, taken to a Gaussian: a value goes to the normal quantile
    of the share of rows below it, its own counted half; an atom's cell lies between the quantiles
    of the shares below it and up to it, so that a Gaussian gives each as often as the data do.

    Where there are more values than knots, those are kept that are nearest to equal distances in
    model space: the tails are then as finely resolved as the middle.
    """
    up_to = column.shares.cumsum(0).clamp(max=1)
    below = torch.cat([up_to.new_zeros(1), up_to[:-1]])
    middle = torch.special.ndtri((below + up_to) / 2)
    cells = torch.special.ndtri(torch.stack([below, up_to], dim=1))
    # The outer cells have no end: they reach as far out as they do inwards.
    cells[0, 0] = 2 * middle[0] - cells[0, 1]
    cells[-1, 1] = 2 * middle[-1] - cells[-1, 0]
    is_atom = _atoms(column, num_knots)
    free = num_knots - 2 * int(is_atom.sum()) - 2
    grid = torch.linspace(float(middle[0]), float(middle[-1]), free, dtype=torch.float64)
    kept = torch.zeros_like(is_atom)
    kept[torch.searchsorted(middle, grid).clamp(max=len(middle) - 1)] = True
    cells = torch.where(is_atom[:, None], cells, middle[:, None])
    return _knots(column, cells, kept, is_atom)


def _mixed(column: Column, num_knots: int) -> Table:
    """The z-score, opened at each atom by a cell; it ends at an outer value that is an atom."""
    is_atom = _atoms(column, num_knots)
    start = (column.values - column.mean) / column.std
    start = start + CELL * (is_atom.cumsum(0) - is_atom.double())
    cells = torch.stack([start, start + CELL * is_atom], dim=1)
    cells, spread = _standardised(cells, column.shares)
    table = _knots(column, cells, torch.zeros_like(is_atom), is_atom)
    slope = column.std * spread
    return table._replace(below=0.0 if is_atom[0] else slope, above=0.0 if is_atom[-1] else slope)


def _atoms(column: Column, num_knots: int) -> Tensor:
    """Which values are atoms ``[m]``: the commonest, where there are many."""
    least = max(ATOM_SHARE, 1.5 / column.rows)
    atoms = (column.shares >= least).nonzero().flatten()
    commonest = atoms[column.shares[atoms].argsort(descending=True)[: num_knots // 4]]
    is_atom = torch.zeros(len(column.shares), dtype=torch.bool)
    is_atom[commonest] = True
    return is_atom


def _standardised(cells: Tensor, shares: Tensor) -> tuple[Tensor, float]:
    """Cells ``[m, 2]`` moved and scaled such that their middles have mean 0 and standard deviation
    1, and the standard deviation that they had."""
    middle = cells.mean(dim=1)
    mean = (shares * middle).sum()
    std = (shares * (middle - mean) ** 2).sum().sqrt()
    return (cells - mean) / std, float(std)


def _knots(column: Column, cells: Tensor, kept: Tensor, is_atom: Tensor) -> Table:
    """The table of the kept values, the atoms and the ends; an atom has two knots, those of its
    cell."""
    kept = kept | is_atom
    kept[[0, -1]] = True
    own = torch.stack([kept, is_atom], dim=1)
    return Table(column.values[:, None].expand(-1, 2)[own], cells[own])

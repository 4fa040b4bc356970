"""The map of a column of each kind, and the maps of all columns as the state of a module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from synther.diffusion.norm.column_kinds import KINDS, Column, ColumnKind, is_few
from synther.diffusion.norm.tables import Table

ATOM_SHARE = 5e-4
"""A value that so many of the rows of a quantile or mixed column have is an atom."""
CELL = 0.5
"""Of an atom of a mixed column, its room in model space, in standard deviations."""
FLAG_VALUES = 16
"""The shares of a discrete column's values are kept where there are no more."""
FINITE = torch.finfo(torch.float32).max
"""In place of infinity: averages of the state, which EMA takes, have to stay numbers."""


class ColumnMap(NamedTuple):
    """The map of one column: by a table, or ``y = (x - offset) / scale`` where there is none.

    Args:
        kind: of the column.
        offset, scale: 0 of a constant column's scale.
        table: of a discrete, quantile or mixed column.
        lowest, highest: bounds of the column, infinite where it has none.
        spread: its standard deviation.
        shares: ``[m]`` of a discrete column's values.
    """

    kind: ColumnKind
    offset: float = 0.0
    scale: float = 1.0
    table: Table | None = None
    lowest: float = -math.inf
    highest: float = math.inf
    spread: float = 0.0
    shares: Tensor | None = None


def map_of(column: Column, kind: ColumnKind, num_knots: int) -> ColumnMap:
    """The map of that kind fitted to a column, its table of at most ``num_knots`` knots.

    Raises:
        ValueError: too many values for a discrete column.
    """
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
    shares = column.shares if kind == "discrete" else None
    return ColumnMap(kind, 0.0, 1.0, table, lowest, highest, spread, shares)


def _discrete(column: Column, num_knots: int) -> Table:
    """Values at equal distances, in their order, with mean 0 and standard deviation 1; decoding
    gives the nearest one."""
    if not is_few(column, num_knots):
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


def as_buffers(maps: Sequence[ColumnMap], num_knots: int) -> dict[str, Tensor]:
    """The state of the columns' maps, of shapes that do not depend on what they are."""

    def numbers(name: str) -> Tensor:
        return torch.tensor([float(getattr(each, name)) for each in maps]).clamp(-FINITE, FINITE)

    values, latents = torch.zeros(2, len(maps), num_knots)
    knots, slopes = torch.zeros(len(maps), dtype=torch.long), torch.zeros(len(maps), 2)
    shares = torch.zeros(len(maps), FLAG_VALUES)
    for number, each in enumerate(maps):
        if each.table is not None:
            count = len(each.table.values)
            values[number, :count], latents[number, :count] = each.table[:2]
            knots[number], slopes[number] = count, torch.tensor(each.table[2:])
        if each.shares is not None and len(each.shares) <= FLAG_VALUES:
            shares[number, : len(each.shares)] = each.shares
    kinds = torch.tensor([KINDS.index(each.kind) for each in maps])
    tables = {"values": values, "latents": latents, "knots": knots, "slopes": slopes}
    tables["shares"] = shares
    named = {name: numbers(name) for name in ("offset", "scale", "lowest", "highest")}
    return {"kind": kinds, **named, **tables}

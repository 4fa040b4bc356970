"""Monotone piecewise-linear maps of columns, each a table of knots between data and model space.

One table serves every kind of column. Between two knots the map is a line. Where two knots share a
value of the data, an *atom*, all of model space between them, the atom's *cell*, decodes to that
value. Where two knots share a place in model space, decoding jumps from the one value to the other
and gives nothing that lies between them. Beyond an outer knot the map goes on with a slope, or
stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GRID = torch.arange(1, 20, dtype=torch.float64) / 20
"""Shares of the data at which samples and data are compared."""


class Table(NamedTuple):
    """The map of one column.

    Args:
        values: ``[k]`` float64, two or more that differ, of the data, in rising order; equal at an
            atom.
        latents: ``[k]`` float64, in model space, in rising order; equal at a jump. From one knot to
            the next at least one of the two rises.
        below, above: the data's rise per unit of model space beyond the outer knots; 0 stays.
    """

    values: Tensor
    latents: Tensor
    below: float = 0.0
    above: float = 0.0


class Pieces(NamedTuple):
    """Functions of T columns, each linear between breakpoints, with a value of its own at each.

    Args:
        breaks: ``[T, b]``, in rising order, infinite behind a column's own.
        lines: ``[T, 3, 2 b + 1]``, origin, start and slope of ``y = start + slope (x - origin)``:
            below the first breakpoint, at it, between it and the next, and so on.
    """

    breaks: Tensor
    lines: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """``[T, M]`` -> ``[T, M]``; what is not a number stays none."""
        piece = torch.searchsorted(self.breaks, x) + torch.searchsorted(self.breaks, x, right=True)
        origin, start, slope = self.lines.gather(2, piece[:, None].expand(-1, 3, -1)).unbind(dim=1)
        return torch.addcmul(start, slope, x - origin)

    @classmethod
    def stack(cls, columns: Sequence[Pieces], like: Tensor) -> Pieces:
        """One column each -> all of them, with the type and on the device of ``like``."""
        most = max(column.breaks.shape[1] for column in columns)
        breaks = like.new_full((len(columns), most), torch.inf)
        lines = like.new_zeros(len(columns), 3, 2 * most + 1)
        for number, column in enumerate(columns):
            breaks[number, : column.breaks.shape[1]] = column.breaks[0]
            lines[number, :, : column.lines.shape[2]] = column.lines[0]
        return cls(breaks, lines)


def encoder(table: Table) -> Pieces:
    """Data -> model space. An atom goes to the middle of its cell; a value between two that a jump
    parts, which decoding never gives, goes to where the jump is."""
    values, start, end = _groups(table.values, table.latents)
    middle = (start + end) / 2
    slopes = (start[1:] - end[:-1]) / values.diff()
    below = (start[:1], 1 / table.below) if table.below else (middle[:1], 0.0)
    above = (end[-1:], 1 / table.above) if table.above else (middle[-1:], 0.0)
    return _pieces(values, middle, below, (end[:-1], slopes), above)


def decoder(table: Table) -> Pieces:
    """Model space -> data."""
    latents, low, high = _groups(table.latents, table.values)
    slopes = (low[1:] - high[:-1]) / latents.diff()
    below, above = (low[:1], table.below), (high[-1:], table.above)
    return _pieces(latents, high, below, (high[:-1], slopes), above)


def matched(table: Table, data: Tensor, samples: Tensor) -> Tensor:
    """Where decoding has to have the knots ``[k]`` for a model's samples to be distributed as data.

    Edges of atoms' cells go to the quantiles of the samples at the shares of the data that lie
    below the atom, and up to it; so do places outside of cells, at the shares of ``GRID``. Between
    two of these the knots follow in proportion, and nothing changes its order. Edges alone would
    move all that lies beyond them as well.

    Args:
        table: of one column.
        data: ``[N]`` float64, values of the column.
        samples: ``[M]`` float64, in model space.
    """
    values, latents = table.values, table.latents
    atoms = (values.diff() == 0).nonzero().flatten()
    edges = torch.cat([atoms, atoms + 1]).sort().values
    edges = edges[(edges > 0) & (edges < len(values) - 1)]
    ordered, upper = data.sort().values, torch.isin(edges, atoms + 1)
    up_to = torch.searchsorted(ordered, values, right=True)[edges]
    below = torch.searchsorted(ordered, values)[edges]
    grid = encoder(table)(torch.from_numpy(np.quantile(ordered, GRID))[None])[0]
    outside = ~((grid >= latents[atoms, None]) & (grid <= latents[atoms + 1, None])).any(dim=0)
    shares = torch.cat([torch.where(upper, up_to, below) / len(data), GRID[outside]])
    places, order = torch.cat([latents[edges], grid[outside]]).sort(stable=True)
    if len(places) == 0:
        return latents
    found = np.maximum.accumulate(np.quantile(samples, shares[order]))
    return latents + torch.from_numpy(np.interp(latents, places, found - places.numpy()))


def log_slopes(table: Table) -> Pieces:
    """``log(d encode / dx)``; at an atom, log of its cell's width: with it a density in model space
    becomes the atom's probability. Where encoding stays at a value, that value's."""
    values, start, end = _groups(table.values, table.latents)
    widths = (end - start).log()
    between = ((start[1:] - end[:-1]) / values.diff()).log()
    # Of two knots that float32 does not hold apart in model space, the slope of the whole column.
    whole = ((end[-1] - start[0]) / (values[-1] - values[0])).log()
    either = torch.where(widths[:-1].isinf(), whole, widths[:-1])
    between = torch.where(between.isinf(), either, between)
    at = torch.where(widths.isinf(), torch.cat([between, between[-1:]]), widths)
    slopes = values.new_tensor([table.below or torch.nan, table.above or torch.nan])
    outer = -slopes.log()
    outer = torch.where(outer.isnan(), at[[0, -1]], outer)
    flat = torch.zeros_like(between)
    return _pieces(values, at, (outer[:1], 0.0), (between, flat), (outer[1:], 0.0))


def _pieces(
    points: Tensor,
    at: Tensor,
    below: tuple[Tensor, float],
    between: tuple[Tensor, Tensor],
    above: tuple[Tensor, float],
) -> Pieces:
    """Of one column: its values at the points, and start and slope of the lines around them."""
    lines = points.new_zeros(3, 2 * len(points) + 1)
    lines[0, ::2], lines[0, 1::2] = torch.cat([points[:1], points]), points
    lines[1, ::2], lines[1, 1::2] = torch.cat([below[0], between[0], above[0]]), at
    lines[2, 0], lines[2, 2:-2:2], lines[2, -1] = below[1], between[1], above[1]
    return Pieces(points[None], lines[None])


def _groups(keys: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct keys, and of the knots that share each the first and the last of the others."""
    points, counts = torch.unique_consecutive(keys, return_counts=True)
    last = counts.cumsum(0) - 1
    return points, others[last - counts + 1], others[last]

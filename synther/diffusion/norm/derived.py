"""What follows from the state of the model space of transitions, on the device of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from synther.diffusion.norm.column_kinds import KINDS
from synther.diffusion.norm.column_maps import FLAG_VALUES
from synther.diffusion.norm.tables import Pieces, Table, decoder, encoder, log_slopes


class Derived(NamedTuple):
    """The maps of all columns in the form in which they are used.

    Args:
        divisor, log_slopes: ``[D]``, of the affine maps.
        where: the columns that have tables.
        pieces: encoding, decoding and log-slopes of these; empty where there are none.
        flags: the discrete columns of at most ``FLAG_VALUES`` values.
        points, log_shares: ``[flags, FLAG_VALUES]``, where their values lie in model space, and the
            logarithms of their shares, minus infinity behind a column's own.
    """

    divisor: Tensor
    log_slopes: Tensor
    where: Tensor
    pieces: tuple[Pieces, ...]
    flags: Tensor
    points: Tensor
    log_shares: Tensor

    @classmethod
    def of(cls, state: Mapping[str, Tensor], like: Tensor) -> Derived:
        """Of the buffers by name, with the type and on the device of ``like``."""
        where = state["knots"].nonzero().flatten()
        tables = [_table(state, int(number)) for number in where]
        functions = (encoder, decoder, log_slopes) if tables else ()
        scale = state["scale"].to(like)
        few = state["knots"] <= 2 * FLAG_VALUES
        flags = (few & (state["kind"] == KINDS.index("discrete"))).nonzero().flatten()
        cells = state["latents"][flags, : 2 * FLAG_VALUES].to(like)
        return cls(
            divisor=torch.where(scale == 0, torch.inf, scale),
            log_slopes=-torch.where(scale == 0, 1, scale).log(),
            where=where.to(like.device),
            pieces=tuple(
                Pieces.stack([function(table) for table in tables], like) for function in functions
            ),
            flags=flags.to(like.device),
            points=cells.unflatten(1, (FLAG_VALUES, 2)).mean(dim=2),
            log_shares=state["shares"][flags].to(like).log(),
        )

    def fits(self, like: Tensor) -> bool:
        """Whether the type and the device are those of ``like``."""
        return (self.divisor.dtype, self.divisor.device) == (like.dtype, like.device)

    def by_table(self, function: int, x: Tensor, affine: Tensor) -> Tensor:
        """``affine [..., D]`` with the columns that have tables replaced by function number
        ``function`` of ``pieces`` at ``x [..., D]``, in place."""
        if self.pieces:
            columns = x[..., self.where].reshape(-1, len(self.where)).t().contiguous()
            found = self.pieces[function](columns).t()
            affine[..., self.where] = found.reshape(*x.shape[:-1], len(self.where))
        return affine

    def flags_denoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The expected clean flags ``[B, flags]`` of noised rows ``[B, D]``, each given its own
        noised value alone: its values, weighted by ``share N(x; value, sigma^2)``."""
        distances = (x[..., self.flags, None] - self.points) / sigma[..., None]
        weights = (self.log_shares - distances.square() / 2).softmax(dim=-1)
        return (weights * self.points).sum(dim=-1)


def _table(state: Mapping[str, Tensor], number: int) -> Table:
    own = slice(int(state["knots"][number]))
    values, latents = (state[name][number, own].double().cpu() for name in ("values", "latents"))
    below, above = state["slopes"][number].tolist()
    return Table(values, latents, below, above)

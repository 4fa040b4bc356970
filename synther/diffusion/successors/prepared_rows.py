"""Real transitions are prepared for a fit: split at random, as tensors, and standardised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synther.diffusion.norm.column_kinds import MIXED_SHARE, Column, is_whole
from synther.diffusion.successors.ensemble import Kind, standardised
from synther.diffusion.successors.few_values import has_few_values
from synther.transitions import TransitionLayout, Transitions

HELD_OUT, MIN_HELD_OUT, MAX_HELD_OUT = 0.1, 50, 10_000
"""The share of the rows that is held out, and the least and the largest number of them."""
MOST_ROWS = 1_000_000
"""Where there are more rows, so many are taken at random: no fit sees as many."""


@dataclass(frozen=True)
class PreparedRows:
    """All rows, and the numbers of those that serve to train, to choose and to judge."""

    layout: TransitionLayout
    observations: Tensor
    actions: Tensor
    successors: Tensor  # [N, O + 2]
    training: Tensor
    choosing: Tensor
    judging: Tensor

    @classmethod
    def of(cls, transitions: Transitions, seed: int, device: torch.device) -> PreparedRows:
        layout = TransitionLayout.of(transitions)
        if len(transitions) > MOST_ROWS:
            chosen = np.random.default_rng(seed).permutation(len(transitions))[:MOST_ROWS]
            transitions = transitions.subset(np.sort(chosen))
        rows = torch.from_numpy(layout.pack(transitions)).to(device)
        fields = layout.split(rows)
        parts = [fields[name] for name in ("next_observations", "rewards", "terminals")]
        count = len(rows)
        held_out = min(max(round(HELD_OUT * count), MIN_HELD_OUT), MAX_HELD_OUT)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).to(device)
        choosing, judging = order[:held_out].chunk(2)
        return cls(
            layout,
            fields["observations"],
            fields["actions"],
            torch.cat(parts, dim=1),
            order[held_out:],
            choosing,
            judging,
        )

    def kinds(self) -> list[Kind]:
        """The kinds of the successor's columns, by all rows: a value that held-out rows alone have
        is one of the column's as well. A flag that no step changes is left alone: a model of
        differences has it right by itself."""
        kinds = [_kind_of(column) for column in self.successors.T]
        following = self.successors[:, : self.layout.observation_dim]
        static = (following == self.observations).all(dim=0).tolist()
        static += [False] * (len(kinds) - len(static))
        return [
            "left" if same and kind == "flag" else kind
            for kind, same in zip(kinds, static, strict=True)
        ]

    def atoms(self, columns: list[int]) -> Tensor:
        """Of these of the successor's columns, the value that a hundredth of the rows or more
        share, the most frequent one; inf where there is none, and for the other columns."""
        found = self.successors.new_full((self.successors.shape[1],), torch.inf)
        for number in columns:
            column = Column.of(self.successors[:, number].cpu().numpy())
            most = column.shares.argmax()
            if not column.is_constant and column.shares[most] >= MIXED_SHARE:
                found[number] = column.values[most]
        return found

    def whole(self) -> Tensor:
        """1 for each of the successor's columns whose values are whole numbers, else 0."""
        return self.successors.new_tensor([float(is_whole(each)) for each in self.successors.T])


def _kind_of(column: Tensor) -> Kind:
    """The kind of a successor's column ``[N]``; whether a smooth one is noisy is found later."""
    distinct = len(column.unique())
    if distinct == 2:
        return "flag"
    return "left" if has_few_values(column.cpu().numpy()) else "exact"


def standard_of(columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The columns standardised by their means and standard deviations over ``rows``, and these
    ``[2, D]``."""
    chosen = columns[rows].double()
    center = chosen.mean(dim=0)
    scale = (chosen - center).square().mean(dim=0).sqrt()
    statistics = torch.stack([center, scale]).float()
    return standardised(columns, statistics), statistics


def range_of(columns: Tensor) -> Tensor:
    """The lowest and the highest value of columns ``[N, D]``: ``[2, D]``."""
    return torch.stack([columns.amin(dim=0), columns.amax(dim=0)])

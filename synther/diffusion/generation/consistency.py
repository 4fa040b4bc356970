"""The last stage of sampling makes the end of a row agree with its beginning.

A diffusion model of moderate size gets next observation, reward and terminal wrong by an amount
that no marginal shows and that an agent learns from. A regression on the same real rows knows them
better. The stage keeps a row's observation and action and replaces what follows wherever samples
are further from what the regression says than held-out real rows are: next observation and reward
of one piece, each flag by itself. What the samples have right stays as it is. Rows that the
ensemble's members do not agree about are drawn again, and so are as many of the others as bring the
rate of terminals to that of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import scipy
import torch
from torch import Tensor

from synther.diffusion.generation.errors import NothingConsistentError
from synther.diffusion.generation.terminal_rate import LEAST_PROBED, thinned
from synther.diffusion.successors.ensemble import Prediction, TransitionEnsemble
from synther.files.checkpoint import fingerprint
from synther.transitions import TransitionLayout

Consistency = Literal["off", "ensemble"]
"""Whether rows pass through the stage."""
CONSISTENCIES = get_args(Consistency)

PROBE_SEED = 0
"""Of the noise of the samples from which it is decided what to do."""
ATTEMPTS = 5
"""A row is drawn so many times at most; what the last draw gives is kept."""
NOISE_TOLERANCE = 0.05
"""What samples differ from the regression by, as a mean of squares, may differ by this share from
that of held-out real rows, beyond two standard errors."""
COUNTING = 2.0
"""Standard deviations of a count by which the number of terminals may differ from the data's."""
SIGNIFICANCE = 0.001
"""A difference between samples and real rows that is less probable by chance is one of theirs."""

Draw = Callable[[int, Tensor | None], tuple[Tensor, Tensor]]
"""A function of an attempt and of the numbers of rows ``[n]`` (None for all) that gives rows
``[n, D]``, and for each row numbers uniform in [0, 1] ``[n, chances]``."""


class ConsistentRows:
    """The stage, for the rows of one generator.

    Args:
        ensemble: fitted to the real rows that the generator was trained on; it moves to the rows'
            device.
        layout: the layout of the rows, with a terminal column.
        probe: rows ``[n, D]`` of the generator, see ``terminal_rate.py``; the first of them decide
            what is replaced.
        terminals: whether the generator models terminals; where it does not, they stay 0.
        as_data: whether the rows are meant to be distributed as the data are. Those that are asked
            for something end as many episodes as what they are asked for does.

    Attributes:
        replaced: the numbers of the successor's columns that are replaced, see ``ensemble.py``.
        drawn_again: the share of the probe's rows that are drawn again.

    Raises:
        ValueError: no ensemble, or one of rows of other columns.
        NothingConsistentError: no row of the probe is kept, so that nothing can be said of any.
    """

    def __init__(
        self,
        ensemble: TransitionEnsemble | None,
        layout: TransitionLayout,
        probe: Tensor,
        *,
        terminals: bool = True,
        as_data: bool = True,
    ) -> None:
        ensemble = _required(ensemble, layout).to(probe.device)
        self.ensemble, self.layout = ensemble, layout
        self._flags = ensemble.columns_of("flag")
        columns = layout.columns
        names = ("next_observations", "rewards", "terminals")
        self._where = [i for name in names for i in range(columns[name].start, columns[name].stop)]
        self.replaced: list[int] = []
        usable = [bool(each) for each in ensemble.sound]
        usable[-1] = usable[-1] and terminals
        self._to_edge = self._share_to_edge(probe) if usable[-1] else 0.0
        chances = torch.rand(len(probe), self.chances, generator=torch.Generator().manual_seed(0))
        chances = chances.to(probe)
        rows, chance = probe[:LEAST_PROBED], chances[:LEAST_PROBED]
        rows, alive = self._living(rows, chance[:, 1:2] < self._to_edge)
        kept = alive & (self._predicted(rows).disagreement <= ensemble.limit)
        if not kept.any():
            raise NothingConsistentError(_nothing_kept(len(rows), int(alive.sum()), ensemble))
        # Flags depend on the smooth columns as they will be, so that these come first.
        if any(usable[each] for each in self._worse_smooth(rows[kept])):
            self.replaced += [each for each in ensemble.smooth if usable[each]]
        self.replaced += [
            each for each in self._worse_flags(rows[kept], chance[kept]) if usable[each]
        ]
        found, kept = self._replaced(probe, chances)
        self._thinned = (0.0, 0.0)
        if terminals and as_data:
            self._thinned = thinned(self._ended(found[kept]), float(ensemble.rate))
        kept &= self._spared(found, chances)
        self.drawn_again = float((~kept).double().mean())

    @property
    def chances(self) -> int:
        """Uniform numbers that a row takes: for its noise, for the edge, for the rate of terminals,
        and for each flag."""
        return 3 + len(self._flags)

    def rows(self, draw: Draw) -> Tensor:
        """Rows ``[N, D]`` from as many attempts as they need, at most ``ATTEMPTS``."""
        rows, kept = self.repaired(*draw(0, None))
        for attempt in range(1, ATTEMPTS):
            wrong = (~kept).nonzero().flatten()
            if len(wrong) == 0:
                break
            rows[wrong], kept[wrong] = self.repaired(*draw(attempt, wrong))
        return rows

    def repaired(self, rows: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``[N, D]`` with the columns replaced, and whether to keep each ``[N]``.

        A row is not kept if the ensemble disagrees about it more than about held-out real rows, or
        if episodes have ended before they come to its observation; but see ``_living``. Nor is one
        of those that are too many for the rate of terminals, see ``terminal_rate.py``.

        Args:
            rows: as the generator gives them; they are left as they are.
            chance: ``[N, chances]`` in [0, 1].
        """
        rows, kept = self._replaced(rows, chance)
        return rows, kept & self._spared(rows, chance)

    def _replaced(self, rows: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
        """What :meth:`repaired` gives, before rows are thinned."""
        if not self.replaced:
            return rows, torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        repaired, kept = self._living(rows, chance[:, 1:2] < self._to_edge)
        prediction = self._predicted(repaired)
        kept &= prediction.disagreement <= self.ensemble.limit
        smooth = self._smooth(repaired, prediction, chance)
        repaired[:, self._columns(self.ensemble.smooth)] = smooth
        raised = chance[:, 3:] < self._probabilities(repaired, smooth)
        low, high = self.ensemble.values[:, self._flags]
        for position, column in enumerate(self._flags):
            if column in self.replaced:
                flags = torch.where(raised[:, position], high[position], low[position])
                repaired[:, self._where[column]] = flags
        return repaired, kept

    def _ended(self, rows: Tensor) -> Tensor:
        """Whether each row has a terminal, ``[N]``."""
        return rows[:, self._where[-1]] > 0

    def _spared(self, rows: Tensor, chance: Tensor) -> Tensor:
        """Whether each row is kept for the rate of terminals, ``[N]``."""
        without, with_one = self._thinned
        return chance[:, 2] >= torch.where(self._ended(rows), with_one, without)

    def settings(self) -> dict[str, Any]:
        """What the rows depend on, and what was found, as plain values."""
        names = self.ensemble.column_names
        return {
            "ensemble": fingerprint(self.ensemble),
            "replaced": [names[column] for column in sorted(self.replaced)],
            "drawn_again": self.drawn_again,
            "held_out_error": self.ensemble.relative_errors(),
        }

    def __str__(self) -> str:
        if not self.replaced:
            said = "consistency: the samples agree with the regressions as they are"
            again = f"{self.drawn_again:.1%} of the rows are drawn again"
            return f"{said}; for the rate of terminals, {again}" if self.drawn_again else said
        dim = self.layout.observation_dim
        count = sum(column < dim for column in self.replaced)
        parts = [f"{count} of {dim} columns of the next observation"] if count else []
        parts += [self.ensemble.column_names[each] for each in self.replaced if each >= dim]
        return (
            f"consistency: {', '.join(parts)} are the regressions'; {self.drawn_again:.1%} of the "
            "rows are drawn again"
        )

    def _predicted(self, rows: Tensor) -> Prediction:
        return self.ensemble.predict(*self._beginning(rows))

    def _beginning(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        columns = self.layout.columns
        return rows[:, columns["observations"]], rows[:, columns["actions"]]

    def _columns(self, successors: list[int]) -> list[int]:
        """Columns of a row, of those of a successor."""
        return [self._where[column] for column in successors]

    def _living(self, rows: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        """A copy of the rows, and whether each has an observation that somebody can act from,
        ``[N]``; ``moves`` ``[N, 1]`` says which may be moved to the edge.

        A model blurs the edge beyond which episodes have ended. Its rows just beyond stand for
        those just inside, many of which are terminal. A share of them is moved to the edge, next
        observation included: the share that brings the rate of terminals to that of real rows.
        """
        observations, _ = self._beginning(rows)
        beyond = observations.clamp(*self.ensemble.living) - observations
        moved = beyond * moves
        alive, columns = rows.clone(), self.layout.columns
        alive[:, columns["observations"]] += moved
        alive[:, columns["next_observations"]] += moved
        return alive, (beyond == moved).all(dim=1)

    def _share_to_edge(self, probe: Tensor) -> float:
        """See ``_living``."""
        moved, _ = self._living(probe, torch.ones_like(probe[:, :1], dtype=torch.bool))
        inside = (moved == probe).all(dim=1)
        if inside.all() or not inside.any():
            return 0.0
        probable = self._probabilities(moved, self._predicted(moved).mean)[:, -1]
        within, beyond = float(probable[inside].mean()), float(probable[~inside].mean())
        # Of n rows inside and b beyond, a share s of these, the rate is that of n + s b rows.
        rate, weight = float(self.ensemble.rate), float((~inside).sum() / inside.sum())
        gain = weight * (beyond - rate)
        share = (rate - within) / gain if gain > 0 else 0.0
        return 0.0 if math.isnan(share) else min(max(share, 0.0), 1.0)

    def _smooth(self, rows: Tensor, prediction: Prediction, chance: Tensor) -> Tensor:
        """The smooth columns ``[N, S]``, those that are replaced anew.

        A sample with the value that many real rows share, such as a reward of 0, keeps it: whether
        a row has it is a matter of yes or no, and a regression makes something between of it.
        """
        smooth = self.ensemble.smooth
        own = rows[:, self._columns(smooth)]
        drawn = self.ensemble.drawn(prediction, chance[:, 0])
        anew = torch.tensor([column in self.replaced for column in smooth], dtype=torch.bool)
        return torch.where(anew.to(rows.device) & (own != self.ensemble.atoms[smooth]), drawn, own)

    def _probabilities(self, rows: Tensor, smooth: Tensor) -> Tensor:
        return self.ensemble.flag_probabilities(*self._beginning(rows), smooth)

    def _worse_smooth(self, rows: Tensor) -> list[int]:
        """Smooth columns in which the samples ``[n, D]`` are further from the regression than real
        rows are. That excess is the samples' own error: there is no noise for it to be.

        All smooth columns are replaced where one is. A step is of one piece: its columns share the
        model's error, and the noise that the data have. On a HalfCheetah's 1 200 rows TD3+BC
        learned 19.8 from samples of which 10 of 18 columns were replaced, and 30.8 from the same
        samples with all of them replaced (4 agents each).
        """
        ensemble, worse = self.ensemble, []
        prediction = self._predicted(rows)
        own = rows[:, self._columns(ensemble.smooth)]
        gaps = (own - prediction.mean).to(ensemble.error)
        ratios = gaps.square().mean(dim=0) / ensemble.error[ensemble.smooth].clamp_min(1e-30)
        allowed = self._allowed(gaps.square(), ensemble.smooth)
        for position, column in enumerate(ensemble.smooth):
            if position not in ensemble.noisy:
                if ratios[position] > 1 + allowed[position]:
                    worse.append(column)
                continue
            noise = ensemble.noisy.index(position)
            units = (gaps[:, position] / prediction.noise[:, noise]).cpu().numpy()
            real = ensemble.residuals[:, noise].cpu().numpy()
            same = scipy.stats.ks_2samp(units, real).pvalue > SIGNIFICANCE
            if not (same and (ratios[position] - 1).abs() <= allowed[position]):
                worse.append(column)
        return worse

    def _allowed(self, squares: Tensor, columns: list[int]) -> Tensor:
        """By what share the mean of squares ``[n, C]`` may differ from the error of real rows."""
        mean = squares.mean(dim=0)
        spread = (squares - mean).square().mean(dim=0).sqrt()
        own = spread / len(squares) ** 0.5 / mean.clamp_min(1e-30)
        return NOISE_TOLERANCE + 2 * torch.hypot(own, self.ensemble.doubt[columns])

    def _worse_flags(self, rows: Tensor, chance: Tensor) -> list[int]:
        """Flags whose values, or their number, are not what the classification expects."""
        ensemble = self.ensemble
        probable = self._probabilities(rows, self._smooth(rows, self._predicted(rows), chance))
        low, high = ensemble.values[:, self._flags]
        found = (rows[:, self._columns(self._flags)] - low) / (high - low)
        squares, real = (found - probable).square(), ensemble.error[self._flags]
        allowed = self._allowed(squares, self._flags) * real + 3 / len(rows)
        wrong = (squares.mean(dim=0) - real).abs() > allowed
        counting = (probable * (1 - probable)).sum(dim=0).sqrt()
        off = (found - probable).sum(dim=0).abs() > 3 * counting + 3
        # Terminals that are as many as in the data stay where the classification would make them
        # fewer or more: an agent that meets too few takes what ends an episode for harmless.
        if len(self._where) - 1 in self._flags:
            count = float(ensemble.rate) * len(rows)
            misses = [abs(float(each[:, -1].sum()) - count) for each in (found, probable)]
            if misses[0] <= COUNTING * count**0.5 < misses[1]:
                wrong[-1] = off[-1] = False
        return [self._flags[int(each)] for each in (wrong | off).nonzero().flatten()]


def _nothing_kept(count: int, alive: int, ensemble: TransitionEnsemble) -> str:
    """What was found, and what can be done."""
    if not ensemble.limit.isfinite():
        return (
            f"the limit of the regressions' disagreement is {float(ensemble.limit):g}, so that no "
            "row can be made consistent: fit them again, to rows of smaller numbers, or set "
            "consistency to 'off'"
        )
    where = f" ({count - alive} of them are beyond where episodes end)" if alive < count else ""
    about = "any" if alive == count else "any other"
    unsure = f", the regressions do not agree about {about} one as they do about real rows"
    return (
        f"none of {count} rows can be made consistent{where}{unsure if alive else ''}. Samples, or "
        "the rows that they are asked to begin at, lie off the data: begin nearer to them or train "
        "the model longer, or set consistency to 'off' for samples as the model gives them"
    )


def _required(ensemble: TransitionEnsemble | None, layout: TransitionLayout) -> TransitionEnsemble:
    if ensemble is None:
        raise ValueError(
            "consistency is 'ensemble', and there is no ensemble: fit one to the real rows "
            "(synther.diffusion.successors.fit_ensemble), or set consistency to 'off'"
        )
    if ensemble.layout != layout:
        raise ValueError(f"the ensemble is of rows {ensemble.layout}, the model of {layout}")
    return ensemble

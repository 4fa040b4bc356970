"""How an ensemble of successors is learnt from real transitions, and what it is told of itself.

A tenth of the rows is held out. One half of it chooses when each column stops training; both give
the errors and the residuals from which noise is drawn, and have to agree on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synther.diffusion.successors.ensemble import (
    TransitionEnsemble,
    leaving,
    offsets,
)
from synther.diffusion.successors.prepared_rows import (
    PreparedRows,
    range_of,
    standard_of,
)
from synther.diffusion.successors.regression import Loss, Size, StackedRegression, fit
from synther.runs import runtime
from synther.transitions import TransitionError, Transitions

MIN_ROWS = 100
NOISE_LIMIT = 0.016
"""See ``_noisy``."""
NOISE_BAND = 0.25
"""By how much the noise's variance may differ between the two halves of the held-out rows."""
FLAG_GAIN = 0.9
"""A flag's mean squared error has to be less than this share of that of its rate alone."""
MOST_SHIFT, BISECTIONS = 10.0, 40
"""Logits are shifted by at most so much, found in so many halvings."""
ENDINGS = 0.02
"""The share of the terminal rows that an edge has to explain; see ``_living``."""
LARGEST_SCALE = 1e6
"""Of a column that steps change by more, float32 may not hold the squares of squares that the last
stage of sampling takes, in the column's units; its errors are float64."""
DISAGREEING = 0.001
"""The limit of disagreement is what this share of the held-out rows exceeds."""


def default_steps(rows: int, at_most: int | None = None) -> int:
    """One training step for every 4 rows, at least 500 and at most 15 000, or ``at_most``."""
    return min(max(rows // 4, 500), 15_000, at_most or 15_000)


def fit_ensemble(
    transitions: Transitions,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    members: int = 4,
    width: int = 256,
    steps: int | None = None,
    at_most: int | None = None,
) -> TransitionEnsemble:
    """Learn what follows an observation and an action.

    On one core of a CPU a step takes about 10 ms, and 40 000 rows take about 100 s. A third of the
    steps leaves errors on HalfCheetah that are larger by a sixth, and agents learn less from it.

    Args:
        transitions: real rows.
        seed: it decides all that is random; on a CPU the same seed gives the same bits.
        device: the ensemble is trained there, and stays there.
        members: the number of networks.
        width: the width of their two hidden layers.
        steps: training steps; None takes :func:`default_steps`.
        at_most: an upper bound of these where that is None. Twice the steps of the diffusion
            model are a good one: a model that was trained for a trial then gets an ensemble for a
            trial.

    Raises:
        TransitionError: fewer than 100 rows, or rows of which the networks learn no finite numbers.
    """
    if len(transitions) < MIN_ROWS:
        raise TransitionError(
            f"{transitions.source}: {len(transitions)} rows, expected {MIN_ROWS} or more to learn "
            "from which observation and action what follows"
        )
    if steps is None:
        steps = default_steps(len(transitions), at_most)
    data = PreparedRows.of(transitions, seed, torch.device(device))
    with runtime.cpu_threads(runtime.RL_THREADS):
        ensemble = _fitted(data, Size(members, width, steps), seed)
    _require_finite(ensemble, transitions)
    return ensemble


@dataclass(frozen=True)
class _Smooth:
    """The networks of the smooth columns, with their inputs and residuals for every row."""

    columns: list[int]  # of the successor
    noisy: list[int]  # of ``columns``, by position
    means: StackedRegression
    sizes: StackedRegression
    inputs: Tensor  # [2, O + A]
    outputs: Tensor  # [2, S]
    x: Tensor  # [N, O + A], standardised
    residuals: Tensor  # [N, S], standardised
    units: Tensor  # [N, noisy], residuals in units of the noise's size


@dataclass(frozen=True)
class _Flags:
    """The networks of the flags, with the probabilities that they give for every row."""

    columns: list[int]  # of the successor
    odds: StackedRegression
    successors: Tensor  # [2, S]
    observed: Tensor  # [2, O]
    living: Tensor  # [2, O]
    raised: Tensor  # [N, F]
    probable: Tensor  # [N, F]


def _fitted(data: PreparedRows, size: Size, seed: int) -> TransitionEnsemble:
    kinds = data.kinds()
    smooth = _fit_smooth(data, [i for i, kind in enumerate(kinds) if kind == "exact"], size, seed)
    noisy = [smooth.columns[position] for position in smooth.noisy]
    for column in noisy:
        kinds[column] = "noisy"
    flag_columns = [i for i, kind in enumerate(kinds) if kind == "flag"]
    flags = _fit_flags(data, smooth, flag_columns, size, seed)

    judged = torch.cat([data.choosing, data.judging])
    scale = smooth.outputs[1]
    wide = torch.float64 if (scale > LARGEST_SCALE).any() else scale.dtype
    squares = torch.zeros(len(judged), len(kinds), dtype=wide, device=scale.device)
    squares[:, smooth.columns] = (smooth.residuals[judged] * scale).to(wide).square()
    squares[:, flags.columns] = (flags.probable - flags.raised)[judged].to(wide).square()
    error = squares.mean(dim=0)
    doubt = squares.std(dim=0) / len(judged) ** 0.5 / error.clamp_min(1e-30)
    sound = torch.zeros_like(error, dtype=scale.dtype)
    sound[smooth.columns] = (error <= data.successors.to(wide).var(dim=0))[smooth.columns].float()
    sound[noisy] *= _steady(smooth.units, data)
    sound[flags.columns] = _calibrated(flags.probable[judged], flags.raised[judged])
    tables = {
        **{"inputs": smooth.inputs, "outputs": smooth.outputs, "successors": flags.successors},
        **{"observed": flags.observed, "living": flags.living, "values": range_of(data.successors)},
        **{"error": error, "doubt": doubt, "sound": sound},
        **{"rate": data.successors[:, -1:].mean(dim=0), "atoms": data.atoms(smooth.columns)},
        "whole": data.whole(),
        **{"residuals": smooth.units[judged], "limit": error.new_full((1,), torch.inf)},
    }
    ensemble = TransitionEnsemble(
        data.layout, tuple(kinds), smooth.means, smooth.sizes, flags.odds, tables
    )
    found = ensemble.predict(data.observations[judged], data.actions[judged])
    ensemble.limit.copy_(found.disagreement.quantile(1 - DISAGREEING))
    return ensemble


def _require_finite(ensemble: TransitionEnsemble, transitions: Transitions) -> None:
    """Nothing compares with an error or a limit that is no number: all rows would be drawn again,
    or none."""
    if ensemble.limit.isfinite().all() and ensemble.error.isfinite().all():
        return
    largest = {key: float(np.abs(each).max()) for key, each in transitions.arrays().items()}
    name = max(largest, key=lambda key: largest[key])
    raise TransitionError(
        f"{transitions.source}: the regressions of what follows give numbers that are not finite; "
        f"the largest one of the rows, {largest[name]:g}, is in '{name}': scale its columns to "
        "smaller numbers, or set consistency to 'off'"
    )


def _fit_smooth(data: PreparedRows, columns: list[int], size: Size, seed: int) -> _Smooth:
    raw = torch.cat([data.observations, data.actions], dim=1)
    x, inputs = standard_of(raw, data.training)
    differences = data.successors[:, columns] - offsets(data.observations, columns)
    y, outputs = standard_of(differences, data.training)
    means = _fit(data, x, y, size, seed, "successors")
    residuals = y - means(x).mean(dim=0)
    noisy = _noisy(data, x, y, means, size, seed)
    small = replace(size, members=2, width=64)
    sizes = _fit(data, x, _log_sizes(residuals[:, noisy]), small, seed, "noise", _size_loss)
    units = residuals[:, noisy] / sizes(x).mean(dim=0).exp()
    return _Smooth(columns, noisy, means, sizes, inputs, outputs, x, residuals, units)


def _fit_flags(
    data: PreparedRows, smooth: _Smooth, columns: list[int], size: Size, seed: int
) -> _Flags:
    observed = range_of(data.observations)
    z, successors = standard_of(data.successors[:, smooth.columns], data.training)
    following = [column for column in smooth.columns if column < data.layout.observation_dim]
    left = leaving(data.successors[:, following], observed[:, following])
    inputs = torch.cat([smooth.x, z, left], dim=1)
    raised = (data.successors > data.successors.amin(dim=0))[:, columns].float()
    small = replace(size, members=2, width=128)
    odds = _fit(data, inputs, raised, small, seed, "flags", _odds_loss)
    odds.shift(_to_the_count(odds(inputs), raised))
    probable = odds(inputs).sigmoid().mean(dim=0)
    living = _living(data, observed)
    return _Flags(columns, odds, successors, observed, living, raised, probable)


def _living(data: PreparedRows, observed: Tensor) -> Tensor:
    """The edges beyond which episodes have ended, ``[2, O]``: the lowest or highest observation of
    a column where at least ``ENDINGS`` of the terminal rows lead beyond it, else infinite."""
    dim = data.layout.observation_dim
    ended = data.successors[data.successors[:, -1] > 0.5, :dim]
    beyond = leaving(ended, observed).mean(dim=0) if len(ended) else observed.new_zeros(2 * dim)
    limits = observed.new_tensor([[-torch.inf], [torch.inf]]).expand(2, dim)
    return torch.where(beyond.reshape(2, dim) >= ENDINGS, observed, limits)


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square()


def _odds_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, targets.expand_as(outputs), reduction="none")


def _size_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of a predicted logarithm of a standard deviation, where the target is the logarithm
    of a residual's size: twice the negative log-likelihood of a Gaussian, less its least value (the
    Itakura-Saito divergence)."""
    excess = 2 * (targets - outputs)
    return excess.exp() - excess - 1


def _fit(
    data: PreparedRows,
    inputs: Tensor,
    targets: Tensor,
    size: Size,
    seed: int,
    name: str,
    loss: Loss = _squared,
    pools: Tensor | None = None,
) -> StackedRegression:
    sequence = np.random.SeedSequence((seed, *name.encode()))
    return fit(
        (inputs[data.training], targets[data.training]),
        (inputs[data.choosing], targets[data.choosing]),
        loss=loss,
        size=size,
        seed=int(sequence.generate_state(1)[0]),
        description=name,
        pools=pools,
    )


def _noisy(
    data: PreparedRows, x: Tensor, y: Tensor, means: StackedRegression, size: Size, seed: int
) -> list[int]:
    """The positions of the smooth columns that have noise: their error neither falls with more
    rows, nor comes from the members themselves.

    Two members learn from a half of the rows each, in half of the steps. Where the error is the
    network's it is larger with half of the rows (by 13 to 80 % in columns of HalfCheetah, Hopper
    and piecewise linear laws), and a part of it is the members' disagreement (6 to 95 %). Where it
    is noise, the former is less than 6 % and the latter too. The product of both is compared with
    ``NOISE_LIMIT``.
    """
    if y.shape[1] == 0:
        return []
    half = len(data.training) // 2
    order = torch.randperm(len(data.training), generator=torch.Generator().manual_seed(seed))
    pools = order[: 2 * half].reshape(2, half).to(x.device)
    smaller = replace(size, members=2, steps=max(1, size.steps // 2))
    halves = _fit(data, x, y, smaller, seed, "halves", pools=pools)
    held_out = torch.cat([data.choosing, data.judging])
    target, where = y[held_out], x[held_out]
    members = means(where)
    error = _squared(members, target).mean(dim=(0, 1))
    growth = _squared(halves(where), target).mean(dim=(0, 1)) / error - 1
    share = members.var(dim=0).mean(dim=0) / error
    return (growth * share < NOISE_LIMIT).nonzero().flatten().tolist()


def _log_sizes(residuals: Tensor) -> Tensor:
    """Logarithms of residuals' sizes ``[N, C]``, kept from minus infinity."""
    floor = 1e-3 * residuals.square().mean(dim=0).sqrt()
    return residuals.abs().clamp_min(floor.clamp_min(1e-12)).log()


def _steady(units: Tensor, data: PreparedRows) -> Tensor:
    """Whether noise has the same variance in both halves of the held-out rows, ``[noisy]``."""
    chosen, judged = (units[rows].square().mean(dim=0) for rows in (data.choosing, data.judging))
    return ((judged / chosen - 1).abs() <= NOISE_BAND).float()


def _to_the_count(logits: Tensor, raised: Tensor) -> Tensor:
    """What to add to logits ``[M, N, F]`` so that the probabilities add up to the number of rows
    whose flag is raised, ``[F]``.

    Of a flag that is rare the networks are stopped before they have its rate: they gave 0.85 % to a
    hopper's terminals, of which 28 in 2 023 rows are 1.38 %, and agents took falls for harmless.
    """
    low, high = (raised.new_full((raised.shape[1],), bound) for bound in (-MOST_SHIFT, MOST_SHIFT))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        few = (logits + middle).sigmoid().mean(dim=(0, 1)) < raised.mean(dim=0)
        low, high = torch.where(few, middle, low), torch.where(few, high, middle)
    return (low + high) / 2


def _calibrated(probable: Tensor, raised: Tensor) -> Tensor:
    """Whether probabilities ``[N, F]`` clearly beat the flag's rate and add up to its count,
    ``[F]``."""
    rate = raised.mean(dim=0)
    better = (probable - raised).square().mean(dim=0) < FLAG_GAIN * rate * (1 - rate)
    off = (probable.sum(dim=0) - raised.sum(dim=0)).abs()
    counting = (probable * (1 - probable)).sum(dim=0).sqrt()
    return (better & (off <= 3 * counting + 3)).float()

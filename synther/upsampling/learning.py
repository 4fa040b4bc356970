"""One round of learning splits the data, trains on one part, and judges samples by the other."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from synther.diffusion.conditioning.values import Values
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.fidelity.held_out import HELD_OUT_ROWS
from synther.diffusion.provenance import Provenance
from synther.diffusion.successors import fit_ensemble
from synther.transitions import TransitionError, TransitionLayout, Transitions
from synther.upsampling.config import MIN_ROWS, UpsampleConfig
from synther.upsampling.model import FittedModel, train
from synther.upsampling.verdict import Verdict, judge

MIN_HELD_OUT = 50
JUDGED_ROWS = 5_000
"""Samples that a verdict is based on."""


class Round(NamedTuple):
    """Which of an ``Upsampler``'s rounds it is: with ``seed``, of all that is random in it.

    Args:
        seed: of the ``Upsampler``.
        number: of the rounds before.
    """

    seed: int
    number: int

    def seed_of(self, use: str) -> int:
        return seed_of(self.seed, use, self.number)


class Parts(NamedTuple):
    """How the rows of a round are split.

    Args:
        share: of the rows that are held out.
        seed: of the choice.
        kept, apart: the numbers of the rows to train on, and of those held out.
    """

    share: float
    seed: int
    kept: NDArray[np.int64]
    apart: NDArray[np.int64]


def parts_of(transitions: Transitions, config: UpsampleConfig, round_: Round) -> Parts:
    """The parts of ``transitions`` in a round, which are known before it."""
    share = max(config.held_out, MIN_HELD_OUT / len(transitions))
    share = min(share, HELD_OUT_ROWS / len(transitions))
    seed = round_.seed_of("split")
    return Parts(share, seed, *transitions.split_rows(share, seed))


def learn(
    transitions: Transitions,
    layout: TransitionLayout,
    config: UpsampleConfig,
    device: torch.device,
    round_: Round,
    start: ElucidatedDiffusion | None = None,
    values: Values | None = None,
) -> tuple[FittedModel, Verdict]:
    """A model of ``transitions``, and the verdict on its samples.

    Args:
        layout, config, start: as :func:`synther.upsampling.model.train` has them.
        device: where the model and its regressions are trained, and stay.
        values: of the condition that ``config`` names, one for each of ``transitions``.
    """
    share, split_seed, kept, apart = parts_of(transitions, config, round_)
    training, held_out = transitions.subset(kept), transitions.subset(apart)
    # A model that goes on may have learnt any row before.
    fresh = start is None
    learnt = Provenance.of(
        transitions, held_out=share if fresh else None, seed=split_seed if fresh else None
    )
    bounds = learnt.sample_bounds
    assert bounds is not None
    values = values and values.subset(kept)
    model = train(training, layout, config, device, round_.seed_of("train"), start, values)
    model.trained_on = learnt
    ensemble = fit_ensemble(
        training, seed=round_.seed_of("ensemble"), device=device, at_most=2 * config.steps
    )
    counts = {"rows": len(transitions), "round": round_.number + 1, "seed": round_.seed}
    fitted = FittedModel(
        model=model,
        layout=layout,
        bounds=(bounds.low.tolist(), bounds.high.tolist()),
        config=config,
        metadata=learnt.metadata(),
        provenance={**counts, **asdict(config)},
        ensemble=ensemble,
    )
    verdict = judge(
        training,
        held_out,
        fitted.draw(JUDGED_ROWS, round_.seed_of("judge")),
        terminals=layout.terminals,
        successors=copy.deepcopy(ensemble).cpu(),
        unseen=fresh,
    )
    return fitted, verdict


def enough(transitions: Transitions) -> Transitions:
    """The transitions, if they are enough to learn from.

    Raises:
        TransitionError: they are not.
    """
    if len(transitions) < MIN_ROWS:
        raise TransitionError(
            f"{transitions.source}: {len(transitions)} rows, expected {MIN_ROWS} or more; a model "
            "of fewer repeats them"
        )
    return transitions


def seed_of(seed: int, use: str, number: int) -> int:
    """A seed for one use of many, each independent of the others."""
    sequence = np.random.SeedSequence((seed, number, *use.encode()))
    return int(sequence.generate_state(1, np.uint64)[0] % 2**62)

"""Provenance says what a model was trained on: it lies in the model's file and in its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from synther.action_bounds import KEYS, ActionBounds
from synther.datasets.action_units import sample_bounds
from synther.datasets.digest import content_digest
from synther.transitions import Transitions

ActionLimits = tuple[ArrayLike, ArrayLike]
STATED = ("env_id", "dataset", "encoder")
"""What is as the metadata of the data have it."""
TRAINED_ON = "trained_on"
"""The entry of it in a model's file, and in the metadata of samples."""


@dataclass(frozen=True)
class Provenance:
    """What a model was trained on, in plain values; None where it is not known.

    Args:
        env_id, dataset: as the metadata of the data had them.
        encoder: the fingerprint of the agent whose encoder made them, where they are latents.
        action_low, action_high: the bounds of the actions, ``[A]``, where they are known.
        samples_low, samples_high: the bounds that samples are kept to, ``[A]``.
        digest: of all the data, see :func:`synther.datasets.digest.content_digest`.
        rows: of the data, of which some were held out:
        held_out: the share that was asked for.
        seed: of the choice.
    """

    env_id: str | None = None
    dataset: str | None = None
    encoder: str | None = None
    action_low: list[float] | None = None
    action_high: list[float] | None = None
    samples_low: list[float] | None = None
    samples_high: list[float] | None = None
    digest: str | None = None
    rows: int | None = None
    held_out: float | None = None
    seed: int | None = None

    @classmethod
    def of(
        cls, data: Transitions, *, held_out: float | None = None, seed: int | None = None
    ) -> Provenance:
        """That of a model of ``data``, of which the share ``held_out`` was held out."""
        kept = sample_bounds(data, warn=True)
        known = {name: data.metadata.get(name) for name in (*STATED, *KEYS)}
        return cls(
            **known,
            samples_low=kept.low.tolist(),
            samples_high=kept.high.tolist(),
            digest=content_digest(data),
            rows=len(data),
            held_out=held_out,
            seed=seed,
        )

    @classmethod
    def from_plain(cls, plain: Any) -> Provenance | None:
        """What :meth:`to_plain` gave; None where nothing is there. What a later version adds is
        left out.

        Raises:
            ValueError: values of other types.
        """
        if not isinstance(plain, Mapping):
            return None
        found = cls(**{name: plain.get(name) for name in cls.__dataclass_fields__})
        for name in (*STATED, "digest"):
            if not isinstance(getattr(found, name), (str, type(None))):
                raise ValueError(f"'{name}' of its data is {getattr(found, name)!r:.80}, no text")
        for name in ("rows", "held_out", "seed"):
            if not isinstance(getattr(found, name), (int, float, type(None))):
                raise ValueError(f"'{name}' of its data is {getattr(found, name)!r:.80}, no number")
        return found

    def check(self, action_dim: int) -> None:
        """Look whether the bounds are such, for actions of ``action_dim`` columns.

        Raises:
            ValueError: they are not.
        """
        ActionBounds.stated(self.to_plain(), action_dim)
        kept = self.sample_bounds
        if kept is not None and not kept.low.shape == kept.high.shape == (action_dim,):
            raise ValueError(f"the bounds of its samples are not [{action_dim}]")

    def to_plain(self) -> dict[str, Any]:
        """The values that are known, in JSON types."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def sample_bounds(self) -> ActionBounds | None:
        """The bounds that samples are kept to."""
        if self.samples_low is None or self.samples_high is None:
            return None
        return ActionBounds(
            np.asarray(self.samples_low, np.float32), np.asarray(self.samples_high, np.float32)
        )

    def metadata(self) -> dict[str, Any]:
        """The entries of the metadata of samples."""
        values = ((name, getattr(self, name)) for name in (*STATED, *KEYS))
        described = {name: value for name, value in values if value is not None}
        return {**described, TRAINED_ON: self.to_plain()}


def usual_action_bounds(env: Any, model: Any) -> ActionLimits:
    """The lowest and the highest action of samples where nobody says otherwise: those of the data
    that the model was trained on, else those of the environment's space, else -1 and 1.

    Args:
        env: the environment that rows are for, or anything else.
        model: the diffusion model, which may know its data.
    """
    learnt: Provenance | None = getattr(model, "trained_on", None)
    if learnt is not None and (bounds := learnt.sample_bounds) is not None:
        return bounds.low, bounds.high
    space = getattr(env, "action_space", None)
    return (-1.0, 1.0) if space is None else (space.low, space.high)

"""Samples are asked for by a condition of their model: each by a value of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from synther.diffusion.conditioning.around import Around
from synther.diffusion.conditioning.condition import Condition, ConditionError, Target
from synther.diffusion.conditioning.given import array_of, label_text
from synther.diffusion.conditioning.policy import PolicyGuidance
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion


@dataclass(frozen=True)
class Asked:
    """What some samples are asked for.

    Args:
        condition: of the model; None where they only begin at real rows.
        target: as it was given.
        guidance: how strongly it is followed, see ``conditioning/guidance.py``.
        raw: what each of the N samples is asked for, ``[N, columns]`` of ``condition.raw``.
        around: the rows that they begin at, see ``conditioning/around.py``.
        policy: that their actions are moved to, see ``conditioning/policy.py``.
    """

    condition: Condition | None = None
    target: Target | None = None
    guidance: float = 1.0
    raw: Tensor | None = None
    around: Around | None = None
    policy: PolicyGuidance | None = None

    @classmethod
    def of(
        cls,
        model: ElucidatedDiffusion,
        target: Target | Around | None,
        guidance: float,
        count: int,
        seed: int,
    ) -> Asked | None:
        """What ``count`` samples of a seed are asked for; None where nothing is.

        Raises:
            ConditionError: a model without a condition, a target that is missing or cannot be, rows
                to begin at that do not fit, or a weight that is no number.
        """
        if not np.isfinite(guidance):
            raise ConditionError(f"guidance is {guidance}, expected a number such as 2.0")
        around = target if isinstance(target, Around) else None
        if around is not None:
            expected = (count, *model.event_shape)
            if around.rows.shape != expected:
                raise ConditionError(
                    f"rows to begin at have shape {tuple(around.rows.shape)}, expected "
                    f"{list(expected)}, one for each sample"
                )
        wanted: Any = target if around is None else around.target
        if wanted is None:
            if guidance not in (0, 1):
                raise ConditionError(
                    f"guidance is {guidance:g}, and there is no target to guide to: give one, such "
                    "as 'top 10%', or leave guidance at 1"
                )
            return None if around is None else cls(guidance=guidance, around=around)
        condition = model.condition
        if condition is None:
            raise ConditionError(
                f"target {wanted!r}: the model has no condition that it could be asked for; train "
                "one with a condition, such as 'return'"
            )
        return cls(condition, wanted, guidance, condition.asked(wanted, count, seed), around)

    @property
    def anything(self) -> bool:
        """Whether samples differ from rows as they come; with a weight of 0 they do not."""
        return self.guidance != 0 or self.around is not None

    def of_probe(self, count: int, seed: int) -> Asked:
        """The same asked of ``count`` other samples."""
        known = self.around.rows if self.around else self.raw
        again = np.arange(count) % (1 if known is None else len(known))
        around = self.around and replace(self.around, rows=self.around.rows[again])
        raw = self.raw
        if self.condition is not None and raw is not None and self.target is not None:
            each = array_of(self.target).ndim > 0
            raw = raw[again] if each else self.condition.asked(self.target, count, seed)
        return replace(self, raw=raw, around=around)

    def arguments(self, start: int, stop: int, rows: Tensor | None, device: Any) -> dict[str, Any]:
        """What the model's ``sample`` takes for samples ``start`` to ``stop``, or of these for
        ``rows``."""

        def chosen(values: Tensor) -> Tensor:
            part = values[start:stop].to(device)
            return part if rows is None else part[rows]

        arguments: dict[str, Any] = {"guidance": self.guidance}
        if self.condition is not None and self.raw is not None:
            arguments["cond"] = self.condition.encode(chosen(self.raw))
        if self.around is not None:
            arguments["around"] = replace(self.around, rows=chosen(self.around.rows))
        if self.policy is not None:
            arguments["policy"] = self.policy
        return arguments

    def settings(self) -> dict[str, Any]:
        """What samples depend on, as plain values."""
        settings: dict[str, Any] = {}
        if self.condition is not None and self.raw is not None:
            target: str | float = f"values {_digest(self.raw)}"
            if (given := array_of(self.target)).ndim == 0:
                word = given.item()
                text = isinstance(word, (str, bytes))
                target = label_text(word, "target") if text else float(word)
            settings = {
                "condition": self.condition.name, "target": target, "guidance": self.guidance
            }  # fmt: skip
        if self.around is not None:
            settings |= {"around": _digest(self.around.rows), "noise": self.around.noise}
        return settings


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.cpu().numpy().tobytes()).hexdigest()[:16]

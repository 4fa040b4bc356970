"""Samples are asked for by a condition of their model: each by a value of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from synther.diffusion.conditioning.condition import Condition, ConditionError, Target
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion


@dataclass(frozen=True)
class Asked:
    """What some samples are asked for.

    Args:
        condition: of the model.
        target: as it was given.
        guidance: how strongly it is followed, see ``conditioning/guidance.py``.
        raw: what each of the N samples is asked for, ``[N, columns]`` of ``condition.raw``.
    """

    condition: Condition
    target: Target
    guidance: float
    raw: Tensor

    @classmethod
    def of(
        cls,
        model: ElucidatedDiffusion,
        target: Target | None,
        guidance: float,
        count: int,
        seed: int,
    ) -> Asked | None:
        """What ``count`` samples of a seed are asked for; None where nothing is.

        Raises:
            ConditionError: a model without a condition, a target that is missing or cannot be, or a
                weight that is no number.
        """
        if not np.isfinite(guidance):
            raise ConditionError(f"guidance is {guidance}, expected a number such as 2.0")
        if target is None:
            if guidance not in (0, 1):
                raise ConditionError(
                    f"guidance is {guidance:g}, and there is no target to guide to: give one, such "
                    "as 'top 10%', or leave guidance at 1"
                )
            return None
        condition = model.condition
        if condition is None:
            raise ConditionError(
                f"target {target!r}: the model has no condition that it could be asked for; train "
                "one with a condition, such as 'return'"
            )
        return cls(condition, target, guidance, condition.asked(target, count, seed))

    def of_probe(self, count: int, seed: int) -> Asked:
        """The same asked of ``count`` other samples."""
        if isinstance(self.target, str) or np.ndim(self.target) == 0:
            raw = self.condition.asked(self.target, count, seed)
        else:
            raw = self.raw[np.arange(count) % len(self.raw)]
        return Asked(self.condition, self.target, self.guidance, raw)

    def arguments(self, start: int, stop: int, rows: Tensor | None, device: Any) -> dict[str, Any]:
        """What the model's ``sample`` takes for samples ``start`` to ``stop``, or of these for
        ``rows``."""
        raw = self.raw[start:stop].to(device)
        cond = self.condition.encode(raw if rows is None else raw[rows])
        return {"cond": cond, "guidance": self.guidance}

    def settings(self) -> dict[str, Any]:
        """What samples depend on, as plain values."""
        if isinstance(self.target, str):
            target: str | float = self.target
        elif np.ndim(self.target) == 0:
            target = float(np.asarray(self.target))
        else:
            digest = hashlib.sha256(self.raw.cpu().numpy().tobytes()).hexdigest()
            target = f"values {digest[:16]}"
        return {"condition": self.condition.name, "target": target, "guidance": self.guidance}

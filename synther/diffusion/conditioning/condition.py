"""A condition is a number, or one label of several, that the rows of a model are asked for by."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.diffusion.conditioning.errors import ConditionError
from synther.diffusion.conditioning.given import array_of, label_text, labels_of, numbers_or_labels
from synther.ranges import Finite

__all__ = ["LEVELS", "Condition", "ConditionError", "Target", "is_constant"]

LEVELS = 1001
"""Quantiles of a condition that the checkpoint holds, those of 0, 0.1, ... 100 %."""
ROUNDING = 1e-5
"""Values may lie outside of the trained range by this share of it, which is rounding."""
SAME = 1e-9
"""Numbers whose standard deviation is at most this share of the largest are one and the same."""
COARSE = 0.01
"""Where float32 rounds numbers by more than this share of their standard deviation, they are
brought near 0 before."""

DISCRETE = 0.5
"""Values of which less than this share of the quantiles differ are few: between two of them there
is none that a row has."""

Target = Finite | str | Sequence[Any] | NDArray[Any]
"""What samples are asked for: a number, a label, ``"top 10%"``, ``"bottom 10%"``, or a number or
a label for each sample."""

_QUANTILE = re.compile(r"\s*(top|bottom)\s+(\d+(?:\.\d*)?|\.\d+)\s*%\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Condition:
    """A condition of a model, with the map of its values, which the checkpoint holds.

    The network sees ``[m * c, m]``: c, standardised or one-hot, and m, 1 where the row has the
    condition and 0 where it was left out, so that one network is conditional and unconditional
    (classifier-free guidance, Ho and Salimans 2022, arXiv 2207.12598).

    Args:
        name: of the condition, such as ``return``.
        about: a sentence on what it is.
        mean, scale: of the values that the model was trained with: ``c = (value - mean) / scale``.
        quantiles: of the same values, ``[LEVELS]``, the lowest first; of few values, those of rows,
            and of others interpolated between rows.
        labels: the names of the sources, where the condition is one of these; it then has no map.
        unseen: of these labels, those that no row had which the model was trained with.
        offset: is taken off in float64, where float32 could not hold the values apart; see
            :meth:`resolved`.
    """

    name: str
    about: str = ""
    mean: float = 0.0
    scale: float = 1.0
    quantiles: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    offset: float = 0.0

    @classmethod
    def of(
        cls,
        name: str,
        values: NDArray[Any] | Tensor,
        about: str = "",
        labels: tuple[str, ...] = (),
    ) -> Condition:
        """The condition whose values in the training rows are ``values [N]``, numbers or labels.

        Args:
            name, about: as above.
            labels: all that there are, where the training rows are only a part of the data.

        Raises:
            ConditionError: not ``[N]``, numbers that are not finite, or as
                :func:`numbers_or_labels`.
        """
        array = array_of(values)
        if array.ndim != 1 or len(array) == 0:
            raise ConditionError(f"condition '{name}': shape {array.shape}, expected [rows]")
        array = numbers_or_labels(array, f"condition '{name}'")
        if own := labels_of(array):
            unseen = tuple(label for label in labels if label not in own)
            return cls(name, about, labels=labels or own, unseen=unseen)
        if array.dtype.kind not in "fiub":
            raise ConditionError(f"condition '{name}': type {array.dtype}, expected numbers")
        wide = array.astype(np.float64)
        if not (finite := np.isfinite(wide)).all():
            raise ConditionError(f"condition '{name}' is not finite in row {np.argmin(finite)}")
        levels = np.linspace(0, 1, LEVELS)
        quantiles = np.quantile(wide, levels).tolist()
        if _is_discrete(quantiles):  # those of the rows, and none between them
            quantiles = np.quantile(wide, levels, method="inverted_cdf").tolist()
        scale = 1.0 if is_constant(wide) else float(wide.std())
        return cls(name, about, float(wide.mean()), scale, tuple(quantiles))

    def resolved(self) -> Condition:
        """The same, with an offset where the values lie so far from 0 beside their scale that
        rounding them to float32 would spoil them. Others keep their numbers bit for bit."""
        highest = max(map(abs, self.quantiles), default=0.0)
        if float(np.finfo(np.float32).eps) * highest <= COARSE * self.scale:
            return self
        return replace(self, offset=self.mean)

    @property
    def columns(self) -> int:
        """The columns of c: 1 for a number, one for each label."""
        return max(1, len(self.labels))

    @property
    def dim(self) -> int:
        """C, the columns that the network sees: those of c, and m."""
        return self.columns + 1

    def raw(self, values: Any) -> Tensor:
        """Values ``[N]`` as columns ``[N, columns]`` float32: numbers as they are, but for the
        offset, and labels one-hot.

        Raises:
            ConditionError: a label that the model does not know, or numbers where it knows labels.
        """
        if not self.labels:
            array = np.asarray(values)
            if array.dtype.kind == "O":
                array = numbers_or_labels(array, f"condition '{self.name}'")
            try:
                if array.dtype.kind not in "fiub":
                    raise TypeError(f"type {array.dtype}")
                if array.dtype.itemsize > 8:  # a long double, which torch does not have
                    array = array.astype(np.float64)
                array = array.astype(np.float64) - self.offset if self.offset else array
                numbers = torch.tensor(array, dtype=torch.float32)
            except (TypeError, ValueError) as error:
                raise ConditionError(
                    f"condition '{self.name}': {values!r:.80} are no numbers"
                ) from error
            return numbers.reshape(-1, 1)
        given = self._texts(values)
        places = {label: place for place, label in enumerate(self.labels)}
        for label in given:
            if label not in places:
                raise ConditionError(
                    f"condition '{self.name}' has no label '{label}', it has "
                    f"{', '.join(self.labels)}"
                )
        chosen = torch.tensor([places[label] for label in given])
        return torch.nn.functional.one_hot(chosen, self.columns).float()

    def encode(self, raw: Tensor, kept: Tensor | None = None) -> Tensor:
        """What the network sees, ``[m * c, m] [N, C]``.

        Args:
            raw: columns ``[N, columns]`` of :meth:`raw`.
            kept: m ``[N]``, whether each row has its condition; None: all have.
        """
        c = raw if self.labels else (raw - (self.mean - self.offset)) / self.scale
        m = c.new_ones(len(c), 1) if kept is None else kept.to(c.dtype).unsqueeze(1)
        return torch.cat([c * m, m], dim=1)

    def nothing(self, like: Tensor) -> Tensor:
        """What the network sees of rows ``like [N, D]`` without a condition: zeros ``[N, C]``."""
        return like.new_zeros(len(like), self.dim)

    def asked(self, target: Target, count: int, seed: int = 0) -> Tensor:
        """What ``count`` samples are asked for, ``[count, columns]`` of :meth:`raw`.

        A quantile such as ``"top 10%"`` gives each sample a value of its own, with the distribution
        of those of the training rows in it: interpolated between the two nearest of the
        ``quantiles``, or, where the training rows have few values, the nearest, which is the value
        of a row. The first rows are the same whatever ``count`` is.

        Raises:
            ConditionError: nothing that can be asked for, or out of the trained range.

        Warns:
            UserWarning: a number between the few values that the training rows have.
        """
        single = False
        if isinstance(target, str) and not self.labels:
            values: NDArray[Any] = self._of_quantile(target, count, seed)
        else:
            values = array_of(target)
            if single := values.ndim == 0:
                values = np.broadcast_to(values, (count,))
            if values.shape != (count,):
                raise ConditionError(
                    f"target of condition '{self.name}' has shape {values.shape}, expected a "
                    f"number or [{count}], one for each sample"
                )
        raw = self.raw(values)
        if self.labels:
            self._require_seen(values)
        else:
            self._require_trained(raw.double().numpy())
            if single and count and _is_discrete(self.quantiles):
                self._warn_between(float(values[0]))
        return raw

    def meant(self, word: str) -> float | str:
        """What a word of a command line asks for: of numbers, a word that reads as one is one; a
        label stays as it was written, whatever it reads as."""
        if self.labels:
            return word
        try:
            return float(word)
        except ValueError:
            return word

    def _texts(self, labels: Any) -> list[str]:
        where = f"condition '{self.name}'"
        return [label_text(each, where) for each in np.atleast_1d(np.asarray(labels))]

    def _require_seen(self, values: NDArray[Any]) -> None:
        for label in sorted(set(self._texts(values)) & set(self.unseen)):
            known = [each for each in self.labels if each not in self.unseen]
            raise ConditionError(
                f"target '{label}' of condition '{self.name}': no row that the model is trained "
                f"with has this label, all of its rows are held out to judge by; ask for "
                f"{', '.join(known)}, hold out fewer rows, or give more rows with it"
            )

    def _of_quantile(self, target: str, count: int, seed: int) -> NDArray[np.float64]:
        found = _QUANTILE.fullmatch(target)
        share = float(found[2]) / 100 if found else 0.0
        if found is None or not 0 < share <= 1:
            raise ConditionError(
                f"target '{target}' of condition '{self.name}': expected a number, or a quantile "
                "such as 'top 10%' or 'bottom 10%'"
            )
        levels = share * np.random.default_rng((seed, 2)).random(count)
        levels = 1 - levels if found[1].lower() == "top" else levels
        if _is_discrete(self.quantiles):
            return np.asarray(self.quantiles)[np.rint(levels * (LEVELS - 1)).astype(np.int64)]
        return np.interp(levels, np.linspace(0, 1, LEVELS), self.quantiles)

    def _require_trained(self, raw: NDArray[np.float64]) -> None:
        """Refuse what the model has never seen: it would answer with anything."""
        if not np.isfinite(raw).all():
            row = int(np.argmin(np.isfinite(raw).all(axis=1)))
            raise ConditionError(
                f"target of condition '{self.name}' is {raw[row, 0]} for sample {row}"
            )
        # Without the offset, or the rounding that is let through would be of it.
        low, high = self.quantiles[0] - self.offset, self.quantiles[-1] - self.offset
        tolerance = _rounding(low, high)
        beyond = np.maximum(low - raw, raw - high)
        if (worst := int(beyond.argmax())) >= 0 and beyond.flat[worst] > tolerance:
            value, digits = raw.flat[worst] + self.offset, 12 if self.offset else 6
            side, end = ("above", high) if raw.flat[worst] > high else ("below", low)
            low, high, end = (bound + self.offset for bound in (low, high, end))
            raise ConditionError(
                f"target {value:.{digits}g} of condition '{self.name}' is "
                f"{beyond.flat[worst]:.4g} {side} the trained range, which ends at "
                f"{end:.{digits}g} (it is {low:.{digits}g} to {high:.{digits}g}, without rows that "
                "are held out); ask for a value in it, or for a quantile such as 'top 1%'"
            )

    def _warn_between(self, value: float) -> None:
        """Warn of a number that the rows' few values leave out: the model never saw it either."""
        known = np.unique(self.quantiles)
        tolerance = _rounding(known[0], known[-1])
        place = int(np.searchsorted(known, value))
        below, above = known[max(0, place - 1)], known[min(place, len(known) - 1)]
        if min(value - below, above - value) > tolerance:
            warnings.warn(
                f"target {value:g} of condition '{self.name}': the rows that the model is trained "
                f"with have {len(known)} values, of which the nearest are {below:g} and {above:g}, "
                "and none between them",
                stacklevel=3,
            )

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint, which says ``unseen`` and ``offset`` only where there are
        any: others are those of earlier versions, byte for byte."""
        plain = asdict(self)
        for name in ("unseen", "offset"):
            if not plain[name]:
                del plain[name]
        return {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Condition:
        """The condition that :meth:`to_plain` described."""
        lists = {name: tuple(plain.get(name, ())) for name in ("quantiles", "labels", "unseen")}
        return cls(**{**plain, **lists})


def _rounding(low: float, high: float) -> float:
    """By how much a number may be off among values from ``low`` to ``high``."""
    return ROUNDING * max(high - low, abs(low), abs(high))


def _is_discrete(quantiles: Sequence[float]) -> bool:
    return len(set(quantiles)) < LEVELS * DISCRETE


def is_constant(values: NDArray[np.float64]) -> bool:
    """Whether numbers are the same but for rounding, which their own magnitude alone decides."""
    return float(values.std()) <= SAME * float(np.abs(values).max())

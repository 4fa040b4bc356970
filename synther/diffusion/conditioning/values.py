"""What a condition is in each real row: a column of it, the return that followed, or given values.

A function of a row that is not here is given as its values: ``[N]`` numbers, or ``[N]`` labels that
say which source each row is from.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gin
import numpy as np
from numpy.typing import NDArray

from synther.datasets.digest import digest_of
from synther.datasets.episodes import known_ends, warn_of_gaps
from synther.diffusion.conditioning.condition import (
    Condition,
    ConditionError,
    is_constant,
)
from synther.diffusion.conditioning.given import array_of, labels_of, numbers_or_labels
from synther.files.atomic import expanded
from synther.ranges import Share, checked
from synther.suggestions import did_you_mean
from synther.transitions import TransitionLayout, Transitions

DISCOUNT = 0.99
"""Of returns, where nothing else is said."""
FEW = 10
"""A condition of many values of which the network can tell less than this apart is none."""


class Values(NamedTuple):
    """The values of a condition in the rows of a data set.

    Args:
        name: of the condition.
        values: of each row ``[N]``, numbers or labels.
        about: a sentence on what they are.
        labels: all that there are in the data set, where these rows are a part of it.
    """

    name: str
    values: NDArray[Any]
    about: str
    labels: tuple[str, ...] = ()

    def subset(self, rows: NDArray[Any]) -> Values:
        """Those of some rows, which have the labels of all: which rows these are must not decide
        how wide a network is."""
        labels = self.labels or labels_of(self.values)
        return self._replace(values=self.values[rows], labels=labels)

    def condition(self, before: Condition | None = None) -> Condition:
        """The condition whose values these are.

        Args:
            before: that of a model which training goes on from; its labels stay.

        Raises:
            ConditionError: the same value everywhere, or values that the network could not tell
                apart, so that there is nothing to ask for; or another condition than ``before``.
        """
        labels = self.labels if before is None else self._labels_of_model(before)
        condition = Condition.of(self.name, self.values, self.about, labels).resolved()
        if before is not None:  # what its weights have learnt, rows need not say again
            unseen = tuple(each for each in condition.unseen if each in before.unseen)
            condition = replace(condition, unseen=unseen)
        low, high = condition.quantiles[:1], condition.quantiles[-1:]
        if len(condition.labels) - len(condition.unseen) == 1 or (low and low == high):
            part = " that the model is trained with" if condition.unseen else ""
            if not condition.labels and (self.values != self.values[0]).any():
                raise ConditionError(
                    f"condition '{self.name}' has values of type {self.values.dtype} that differ "
                    "by less than float64 can tell apart; subtract what they have in common"
                )
            raise ConditionError(
                f"condition '{self.name}' is {self.values[0]} in every row{part}, so that there is "
                "nothing to ask for"
            )
        if not condition.labels:
            self._require_apart(condition)
        return condition

    def digest(self) -> str:
        """16 hexadecimal digits of a SHA-256 over the values."""
        return digest_of({self.name: self.values})

    def _labels_of_model(self, before: Condition) -> tuple[str, ...]:
        own = self.labels or labels_of(self.values)
        if bool(own) != bool(before.labels):
            kinds = ("labels", "numbers") if own else ("numbers", "labels")
            why = f": it is of {kinds[0]}, the model's of {kinds[1]}"
        elif missing := [each for each in own if each not in before.labels]:
            why = f": that has {', '.join(before.labels)}, and no {', '.join(missing)}"
        else:
            return before.labels
        raise ConditionError(
            f"condition '{self.name}' is not that of the present model, which a refit goes on "
            f"from{why}; use fit for a new model"
        )

    def _require_apart(self, condition: Condition) -> None:
        """Refuse numbers that are all but one number to the network, which sees float32."""
        low, high = condition.quantiles[0], condition.quantiles[-1]
        span = f"condition '{self.name}', whose values are {low:.12g} to {high:.12g}"
        if is_constant(self.values.astype(np.float64)):
            raise ConditionError(
                f"{span}, differs by no more than rounding beside their size, so that there is "
                "nothing to ask for; give values with an offset taken off, such as their mean"
            )
        seen = condition.encode(condition.raw(condition.quantiles))[:, 0].numpy()
        different, told_apart = len(set(condition.quantiles)), len(np.unique(seen))
        if not np.isfinite(seen).all():
            raise ConditionError(
                f"{span}, is beyond what the network's float32 holds; give values in another unit"
            )
        if told_apart == 1 or (told_apart < FEW and told_apart * FEW <= different):
            raise ConditionError(
                f"{span}, has a few values that lie so far from the others that these are one to "
                f"the network: of {different} quantiles {told_apart} differ; give values with "
                "those clipped, or rounded to what matters"
            )


def with_values(
    rows: NDArray[np.float32], values: Values | None, before: Condition | None = None
) -> tuple[NDArray[np.float32], Condition | None]:
    """What a trainer takes: rows ``[N, D]``, where there is a condition with its columns after
    those of the rows; and the condition. ``before`` is as :meth:`Values.condition` has it."""
    if values is None:
        return rows, None
    condition = values.condition(before)
    return np.concatenate([rows, condition.raw(values.values).numpy()], axis=1), condition


def values_of(
    name: str, transitions: Transitions, *, given: Any = None, discount: float = DISCOUNT
) -> Values:
    """The values of a condition in rows that lie in the order of their episodes.

    Args:
        name: ``return``, ``reward``, a column such as ``observations[3]``, or of ``given``, any.
        transitions: N rows.
        given: values ``[N]``, numbers or labels, in place of those that the name stands for; or the
            path of an ``.npy`` that holds them.
        discount: of ``return``.

    Raises:
        ConditionError: no such condition, or given values that do not fit the rows.
        TransitionError: ``return`` of rows whose episodes cannot be known.
    """
    if given is not None:
        return Values(name, _checked(name, given, len(transitions)), "values that were given")
    if name == "return":
        about = f"the sum of rewards to the end of the episode, discounted by {discount:g}"
        return Values(name, return_to_go(transitions, discount), about)
    column = {"reward": "rewards", "terminal": "terminals"}.get(name, name)
    layout = TransitionLayout.of(transitions)
    names = layout.column_names
    if column not in names:
        known = ["return", "reward", "terminal", *names]
        raise ConditionError(
            f"no condition '{name}'{did_you_mean(name, known)}; any other is given as values [N], "
            "one for each row"
        )
    field, _, place = column.partition("[")
    array = getattr(transitions, field)
    values = array[:, int(place[:-1])] if place else array
    return Values(name, values, f"the column {column} of the row")


@gin.configurable("condition")
@checked
def named_values(
    transitions: Transitions, name: str = "", discount: Share = DISCOUNT
) -> Values | None:
    """The values of the condition that a run has; None where it has none.

    Args:
        transitions: rows in the order of their episodes.
        name: as in :func:`values_of`, or the path of an ``.npy`` of values, which it is named by.
        discount: of ``return``.
    """
    if not name:
        return None
    return values_of(name_of(name), transitions, given=file_of(name), discount=discount)


def name_of(name: str) -> str:
    """What a condition is called that :func:`named_values` is given: a file, by its name."""
    file = file_of(name)
    return Path(file).stem if file else name


def file_of(name: str) -> str | None:
    """The file of its values, where that is what :func:`named_values` is given."""
    return name if name.endswith(".npy") else None


def return_to_go(transitions: Transitions, discount: float = DISCOUNT) -> NDArray[np.float64]:
    """``sum_k discount^k r_(t+k)`` to the end of each row's episode, ``[N]``.

    Where an episode was cut off, and where the data end, the sum ends as well.

    Raises:
        TransitionError: rows that do not lie in the order of their episodes.
        ValueError: a discount outside of [0, 1].

    Warns:
        UserWarning: rows of the episodes seem to be missing, and with them their rewards.
    """
    if not 0 <= discount <= 1:
        raise ValueError(f"discount is {discount}, expected 0 to 1")
    ends = known_ends(transitions)
    warn_of_gaps(transitions, ends)
    goes_on = ~ends
    rewards = transitions.rewards.astype(np.float64)
    returns = np.empty_like(rewards)
    following = 0.0
    for row in range(len(rewards) - 1, -1, -1):
        following = rewards[row] + discount * following * goes_on[row]
        returns[row] = following
    return returns


def _checked(name: str, given: Any, rows: int) -> NDArray[Any]:
    where = f"condition '{name}'"
    if isinstance(given, (str, Path)):
        where = str(given)
        try:
            with open(expanded(given), "rb") as file:
                given = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ConditionError(
                f"{given}: not an .npy of numbers or labels, one for each row ({error})"
            ) from error
    values = array_of(given)
    if values.shape != (rows,):
        raise ConditionError(
            f"{where}: values of shape {values.shape}, expected [{rows}], one for each row of the "
            "data"
        )
    return numbers_or_labels(values, where)

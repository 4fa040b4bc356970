"""The study's cells answer for a data set that is near to them, and for no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synther.advise.features import Features
from synther.advise.table import Cell, NoAdviceError, Word

NEAR = 1.0
"""Cells further away than this say nothing: on average over what is known, a factor of 3 in rows, 2
in columns, 10 in episodes, or a quarter in a share; see :meth:`Features.place`."""
WIDEST = 2.5
"""Nor do cells that differ by more than this in a single one: in an average over eight features
a data set a hundred times as large as any of the study would count as near. Cells of the study's
tasks that lie near each other otherwise differ by up to 2.1, in their share of terminals."""
MODELS = {"demo": (256, 8_000), "paper": (2048, 100_000)}
"""Width and training steps of the study's models, by their size."""
VOICES = 3
"""The nearest cells that an answer is taken from, at most."""
CLOSE = 0.2
"""A cell has the voice ``1 / (CLOSE^2 + distance^2)``: one that is this near has half of that of a
cell of the very same data, and one at a distance of 1 a 26th, so that the study does not contradict
what it saw on these data themselves."""


@dataclass(frozen=True)
class Answer:
    """What the nearest cells of one algorithm and kind of rows say.

    Args:
        algorithm, kind: of these cells.
        word: what more than half of their voices say, else ``neither``.
        cells: of which each has its distance, the nearest first.
    """

    algorithm: str
    kind: str
    word: Word
    cells: tuple[tuple[float, Cell], ...]

    @property
    def model(self) -> tuple[int, int]:
        """Width and training steps of the models whose rows these cells are about."""
        return MODELS["paper" if self.algorithm.endswith("-paper") else "demo"]

    @property
    def gain(self) -> float:
        """The mean gain of the cells."""
        return float(np.mean([cell.gain for _, cell in self.cells]))


@dataclass(frozen=True)
class Score:
    """How often answers are right on the study's own cells, each data set left out in turn.

    Args:
        cells: that were asked about.
        answered: those that had a near cell of another data set.
        right: answers that were the cell's own word.
        constant: those of the answered that the most frequent word of the other data sets gets.
    """

    cells: int
    answered: int
    right: int
    constant: int

    def __str__(self) -> str:
        if not self.answered:
            return (
                f"leaving each data set out, none of the study's {self.cells} cells has a near "
                "one, so that nothing is known of how often such answers are right"
            )
        return (
            f"leaving each data set out, {self.answered} of the study's {self.cells} cells got an "
            f"answer and {self.right} of these were right; always giving the most frequent word "
            f"gets {self.constant}"
        )


def differences(one: Features, other: Features) -> dict[str, float]:
    """By how much two data sets differ in each of the features that are known of both."""
    here, there = one.place(), other.place()
    return {name: abs(here[name] - there[name]) for name in here if name in there}


def distance(one: Features, other: Features) -> float:
    """The root mean square of the differences."""
    return float(np.sqrt(np.mean(np.square(list(differences(one, other).values())))))


def is_near(one: Features, other: Features) -> bool:
    """Whether what was seen for one of two data sets says something of the other."""
    widest = max(differences(one, other).values())
    return widest <= WIDEST and distance(one, other) <= NEAR


def answers(cells: Sequence[Cell], features: Features) -> list[Answer]:
    """An answer for each algorithm and kind of rows that has a near cell, the nearest first."""
    groups: dict[tuple[str, str], list[tuple[float, Cell]]] = {}
    for cell in cells:
        if is_near(features, cell.features):
            far = distance(features, cell.features)
            groups.setdefault((cell.algorithm, cell.kind), []).append((far, cell))
    found = []
    for (algorithm, kind), group in groups.items():
        near = sorted(group, key=lambda each: each[0])[:VOICES]
        voices: dict[Word, float] = {}
        for far, cell in near:
            voices[cell.verdict] = voices.get(cell.verdict, 0.0) + 1 / (CLOSE**2 + far**2)
        word, loudest = max(voices.items(), key=lambda each: each[1])
        said: Word = word if 2 * loudest > sum(voices.values()) else "neither"
        found.append(Answer(algorithm, kind, said, tuple(near)))
    return sorted(found, key=lambda answer: answer.cells[0][0])


def leave_one_out(cells: Sequence[Cell]) -> Score:
    """Ask about each cell without the cells of its own data set."""
    answered = right = constant = 0
    for cell in cells:
        others = [each for each in cells if each.data != cell.data
                  and (each.algorithm, each.kind) == (cell.algorithm, cell.kind)]  # fmt: skip
        for answer in answers(others, cell.features):
            usual = Counter(each.verdict for each in others).most_common(1)[0][0]
            answered += 1
            right += answer.word == cell.verdict
            constant += usual == cell.verdict
    return Score(len(cells), answered, right, constant)


def require_near(cells: Sequence[Cell], features: Features) -> list[Answer]:
    """:func:`answers`, of which there is one at least.

    Raises:
        NoAdviceError: there is none; the message names the nearest cell.
    """
    found = answers(cells, features)
    if not found:
        raise NoAdviceError(
            f"the study has nothing like these data: {_why_far(cells, features)}; try both kinds "
            "of rows on a short run of your own"
        )
    return found


def _why_far(cells: Sequence[Cell], features: Features) -> str:
    """The features in which no cell is near; where there are none, how far the nearest cell is."""
    apart = [(differences(features, cell.features), cell) for cell in cells]
    outside = []
    for name in features.place():
        known = [(gaps[name], cell) for gaps, cell in apart if name in gaps]
        gap, cell = min(known, key=lambda each: each[0], default=(0.0, None))
        if cell and gap > WIDEST:
            own, nearest = _value(features, name), _value(cell.features, name)
            outside.append(f"{_words(name)} {own}, the nearest in the study {nearest}")
    if outside:
        return "; ".join(outside)
    gaps, cell = min(apart, key=lambda each: distance(features, each[1].features))
    where = f"its nearest cell, {cell.share} % of {cell.data},"
    if (far := distance(features, cell.features)) > NEAR:
        return f"{where} is {far:.1f} away, and beyond {NEAR:.1f} a cell says nothing"
    widest = max(gaps, key=lambda name: gaps[name])
    own, there = _value(features, widest), _value(cell.features, widest)
    return f"{where} differs too much in {_words(widest)}: {own} in these data, {there} there"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(features: Features, name: str) -> str:
    value = getattr(features, name)
    return f"{value:.3g}" if isinstance(value, float) else str(value)

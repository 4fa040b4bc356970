"""The study's cells answer for a data set that is near to them, and for no other.

``table.json`` is written by ``benchmarks/when_does_it_help.py --table``, which says how its cells
were made and what its words mean.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from synther.advise.features import Features
from synther.ranges import Count, Finite, Range, problem
from synther.runs.settings import check

Word = Literal["help", "neither", "harm"]
Kind = Literal["new", "2023", "mixed"]
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


class NoAdviceError(ValueError):
    """The study says nothing about these data; the message says why."""


@dataclass(frozen=True)
class Cell:
    """What the study saw for one algorithm, kind of rows, data set and share of it.

    Args:
        data, share: the data set, and the percentage of its rows that was used.
        algorithm: of the agents.
        kind: of the rows that they learned from: ``new``, ``2023`` or ``mixed``.
        gain, low, high: in normalised score over the same real rows, and its 95 % interval.
        verdict: the study's word for the interval.
        seeds: of the agents behind it.
        features: of the real rows.
        gains: of each of its choices of rows, which had a model of their own; empty in a table of
            an earlier version, where there is one.
    """

    data: str
    share: Annotated[int, Range(1, 100)]
    algorithm: str
    kind: Kind
    gain: Finite
    low: Finite
    high: Finite
    verdict: Word
    seeds: Count
    features: Features
    gains: tuple[float, ...] = ()

    @property
    def replicates(self) -> int:
        """How many choices of rows, each with a model of its own, are behind it."""
        return max(len(self.gains), 1)


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


def read_table(path: Path | None = None) -> list[Cell]:
    """The cells of the table at ``path``; without one, of the table that ships inside.

    Raises:
        NoAdviceError: it cannot be read, is not a table of the study, has a cell that cannot be, a
            second one of the same, or no cells.
    """
    source = path or resources.files(__package__).joinpath("table.json")
    try:
        found = json.loads(source.read_text(encoding="utf-8"))["cells"]
        cells = [_cell(plain, f"cells[{number}]") for number, plain in enumerate(found)]
        _require_different(cells)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise NoAdviceError(
            f"{source}: not a table of the study ({why}); it is written by "
            "benchmarks/when_does_it_help.py --table PATH"
        ) from error
    if not cells:
        raise NoAdviceError(
            "the study of when synthetic rows help has no results in this version, so there is "
            "nothing that advice could rest on; python3 benchmarks/when_does_it_help.py makes "
            "them, --table PATH writes them, and advise --table PATH reads them"
        )
    return cells


def _cell(plain: Any, where: str) -> Cell:
    """The cell of plain values, every one of which is checked: a table may be damaged, and a minute
    of training lies between its reading and its use."""
    known = _object(plain, where)
    names = [field.name for field in fields(Cell) if field.name in known]
    required = [field.name for field in fields(Cell) if field.default is MISSING]
    if missing := [name for name in required if name not in known]:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    for name in ("data", "algorithm"):
        if not isinstance(known[name], str):
            raise ValueError(f"{where}: {name} is {known[name]!r:.80}, expected text")
    features = Features.from_plain(_object(known["features"], f"{where}: features"))
    gains = _gains(known.get("gains", []), where)
    known = {**known, "features": features, "gains": gains}
    cell = Cell(**{name: known[name] for name in names})
    check(cell, f"{where}: ")
    check(features, f"{where}: features: ")
    if not cell.low <= cell.gain <= cell.high:
        raise ValueError(
            f"{where}: gain {cell.gain} is not from low {cell.low} to high {cell.high}"
        )
    # Ends of 0 fit either side: tables of earlier versions have rounded ones, and words of exact.
    fits = {"help": cell.low >= 0, "harm": cell.high <= 0, "neither": cell.low <= 0 <= cell.high}
    if not fits[cell.verdict]:
        raise ValueError(
            f"{where}: verdict is '{cell.verdict}', which an interval from {cell.low} to "
            f"{cell.high} does not say"
        )
    return cell


def _gains(plain: Any, where: str) -> tuple[float, ...]:
    if not isinstance(plain, Sequence) or isinstance(plain, str):
        raise ValueError(f"{where}: gains is {plain!r:.80}, expected a list of numbers")
    for number, gain in enumerate(plain):
        if expected := problem(gain, Finite):
            raise ValueError(f"{where}: gains[{number}] is {gain!r:.80}, expected {expected}")
    return tuple(map(float, plain))


def _require_different(cells: Sequence[Cell]) -> None:
    """Refuse a second cell of the same, which would have a voice of its own in every answer."""
    seen: dict[tuple[str, int, str, str], int] = {}
    for number, cell in enumerate(cells):
        first = seen.setdefault((cell.data, cell.share, cell.algorithm, cell.kind), number)
        if first != number:
            raise ValueError(
                f"cells[{number}] has the data, share, algorithm and kind of cells[{first}]"
            )


def _object(plain: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(plain, Mapping):
        raise ValueError(f"{where} is {plain!r:.80}, expected an object")
    return plain


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

"""The table of the study's cells, of which every value is checked as it is read.

``table.json`` is written by ``benchmarks/when_does_it_help.py --table``, which says how its cells
were made and what its words mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from synther.advise.features import Features
from synther.ranges import Count, Finite, Range, problem
from synther.runs.settings import check

Word = Literal["help", "neither", "harm"]
Kind = Literal["new", "2023", "mixed"]


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
    required = [field.name for field in fields(Cell) if field.default is MISSING]
    if missing := [name for name in required if name not in known]:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    for name in ("data", "algorithm"):
        if not isinstance(known[name], str):
            raise ValueError(f"{where}: {name} is {known[name]!r:.80}, expected text")
    features = Features.from_plain(_object(known["features"], f"{where}: features"))
    read = {"features": features, "gains": _gains(known.get("gains", []), where)}
    cell = Cell(**{**{name: known[name] for name in required}, **read})
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

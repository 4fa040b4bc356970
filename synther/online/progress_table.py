"""``progress.txt`` has a line for each epoch and tabs between columns, as Spinning Up writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from synther.files import atomic
from synther.online.config import OnlineConfig
from synther.online.epoch_statistics import statistics_of
from synther.online.q_bias import BiasEvaluation


class ProgressTable:
    """Appends a line for each epoch; ``pandas.read_table`` and REDQ's plotters read it.

    Args:
        path: of the file; it is written anew.
        columns: in their order; an epoch without one of them (no update yet) has ``nan`` there.
        earlier: the epochs of the run that is continued.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], earlier: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self.path, self.columns = path, columns
        lines = ["\t".join(columns), *map(self._line, earlier)]
        atomic.write_text(path, "".join(line + "\n" for line in lines))

    def add(self, epoch: Mapping[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(self._line(epoch) + "\n")

    def _line(self, epoch: Mapping[str, Any]) -> str:
        return "\t".join(str(epoch.get(column, "nan")) for column in self.columns)


def columns_of(config: OnlineConfig) -> list[str]:
    """The columns of ``progress.txt``."""

    def spread(name: str) -> list[str]:
        return list(statistics_of(name, []))

    columns = ["Epoch", "TotalEnvInteracts", "Time", "StepsPerSecond", *spread("EpRet"), "EpLen",
               *spread("TestEpRet"), "TestEpLen", *spread("Q1Vals"), "LossQ1", *spread("LogPi"),
               "LossPi", "Alpha", "LossAlpha"]  # fmt: skip
    if config.evaluate_bias:
        columns += [column for name in BiasEvaluation.COLUMNS for column in spread(name)]
    return columns

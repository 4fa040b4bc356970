"""An online run logs a record for each epoch and for each refill, and a table of its epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from synther.files import atomic
from synther.online.config import OnlineConfig
from synther.online.epoch_statistics import statistics_of
from synther.online.q_bias import BiasEvaluation
from synther.runs.loggers import Adapter, Logger, read_metrics


class RunLogs:
    """Writes ``metrics.jsonl`` and ``progress.txt`` (epochs) and ``refills.jsonl``.

    Args:
        folder: of the run.
        config: of the run; it says which columns ``progress.txt`` has.
        adapters: further places for the records of epochs.
        last_epoch: the step up to which a resumed run has the records of its epochs; it writes
            later ones again. None begins the files anew.
        last_refill: the same of its refills.
    """

    def __init__(
        self,
        folder: Path,
        config: OnlineConfig,
        adapters: tuple[Adapter, ...],
        *,
        last_epoch: int | None,
        last_refill: int | None,
    ) -> None:
        self._epochs = Logger(folder, adapters=adapters, resume_from=last_epoch)
        self._refills = Logger(folder, "refills", resume_from=last_refill)
        earlier = read_metrics(self._epochs.path)
        self._table = ProgressTable(folder / "progress.txt", columns_of(config), earlier)

    def epoch(self, columns: Mapping[str, Any], step: int) -> None:
        """Record an epoch that ended with ``step``."""
        self._epochs.log(columns, step)
        self._table.add(columns)

    def refill(self, metrics: Mapping[str, float], step: int) -> None:
        """Record a refill after ``step``."""
        self._refills.log(metrics, step)

    def close(self) -> None:
        self._epochs.close()
        self._refills.close()


class ProgressTable:
    """Appends a line for each epoch, with tabs between columns, as Spinning Up and REDQ write it.

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

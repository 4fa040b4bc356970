"""An online run logs a record for each epoch and for each refill, and a table of its epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synther.online.config import OnlineConfig
from synther.online.progress_table import ProgressTable, columns_of
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

"""An online run is saved in files that it goes on from; each is written whole or not at all.

The run's folder holds ``checkpoint-{step}.pt`` (the newest alone), the real rows as
:class:`~synther.online.row_log.RowLog` keeps them, and ``synthetic-{refill}.npy``, which is written
once for each refill. What they take on the disk is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synther.files import atomic, checkpoint
from synther.learning.replay import RowBuffer
from synther.online.row_log import RowLog, load_rows, save_rows
from synther.runs.folder import PREFIX


class RunFiles:
    """Writes checkpoints into ``folder``, and beside them the rows of the two buffers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = RowLog(folder / "replay")

    def save(self, state: Mapping[str, Any], replay: RowBuffer, synthetic: RowBuffer) -> None:
        """Write a checkpoint with its rows, then remove the files of the one before.

        Args:
            state: of the run; its ``step`` and the number of its ``refills`` name the files.
            replay: the real rows, one for each step.
            synthetic: the rows of the last refill.
        """
        step, refills = state["step"], state["refills"]
        self.rows.write(replay, step)
        path = self._synthetic_path(refills)
        if len(synthetic) and not path.exists():
            save_rows(path, synthetic.valid_rows())
        whole = {**state, "synthetic_rows": len(synthetic)}
        checkpoint.save(self._checkpoint_path(step), whole)
        self.tidy(step, refills, replay)

    def latest(self) -> Path | None:
        """The checkpoint to go on from."""
        return checkpoint.latest(self.folder, PREFIX)

    def read_rows(self, state: Mapping[str, Any], replay: RowBuffer, synthetic: RowBuffer) -> None:
        """Fill both buffers with what they held at the checkpoint whose content ``state`` is.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        self.rows.read(replay, state["step"])
        if count := state["synthetic_rows"]:
            path = self._synthetic_path(state["refills"])
            synthetic.insert(load_rows(path, count, synthetic.layout.row_dim))

    def tidy(self, step: int, refills: int, replay: RowBuffer) -> None:
        """Remove all but what the checkpoint of ``step`` needs: earlier files, and what was written
        for a checkpoint that a kill cut off (rows that the run may draw otherwise when it comes
        there again).
        """
        for saved, path in checkpoint.steps(self.folder, PREFIX).items():
            if saved != step:
                path.unlink()
        for path in self.folder.glob("synthetic-*.npy"):
            if path != self._synthetic_path(refills):
                path.unlink()
        self.rows.tidy(replay, step)
        for folder in (self.folder, self.rows.folder):
            atomic.remove_partials(folder)

    def _checkpoint_path(self, step: int) -> Path:
        return self.folder / f"{PREFIX}-{step}.pt"

    def _synthetic_path(self, refills: int) -> Path:
        return self.folder / f"synthetic-{refills}.npy"

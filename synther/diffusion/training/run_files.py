"""A diffusion run keeps its checkpoints in files with these names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synther.files import checkpoint


class RunFiles:
    """``model-{step}.pt`` of a run, and its newest ``resume-{step}.pt``.

    Args:
        folder: the folder that holds them.
        max_checkpoints: how many ``model-{step}.pt`` are kept, the newest; None keeps all.
    """

    def __init__(self, folder: Path, max_checkpoints: int | None) -> None:
        self._folder, self._max_checkpoints = folder, max_checkpoints

    def checkpoint_path(self, step: int) -> Path:
        return self._folder / f"model-{step}.pt"

    def save_checkpoint(self, step: int, payload: dict[str, Any]) -> Path:
        """Write ``model-{step}.pt``, and remove the oldest ones beyond ``max_checkpoints``."""
        path = checkpoint.save(self.checkpoint_path(step), payload)
        if self._max_checkpoints is not None:
            written = checkpoint.steps(self._folder, "model")
            for old in list(written.values())[: -self._max_checkpoints]:
                if old != path:
                    old.unlink()
        return path

    def save_resume_point(self, step: int, payload: dict[str, Any]) -> None:
        """Write ``resume-{step}.pt``, which takes the place of the one before."""
        path = checkpoint.save(self._folder / f"resume-{step}.pt", payload)
        self.remove_resume_points(but=path)

    def remove_resume_points(self, but: Path | None = None) -> None:
        """Remove every ``resume-{step}.pt``, except the one at ``but``."""
        for path in checkpoint.steps(self._folder, "resume").values():
            if path != but:
                path.unlink()

    def furthest(self) -> Path | None:
        """The file of the highest step, of either kind; None where there is none."""
        return checkpoint.furthest(self._folder, "model", "resume")

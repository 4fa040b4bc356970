"""What a training checkpoint holds, where it is, and how a trainer goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from synther.diffusion import model_io
from synther.diffusion.optimisation import load_optimizer
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError

if TYPE_CHECKING:
    from synther.diffusion.training.trainer import Trainer


class RunFiles:
    """``model-{step}.pt`` of a run, and its newest ``resume-{step}.pt``.

    Args:
        folder: where they are.
        max_checkpoints: how many ``model-{step}.pt`` are kept, the newest; None keeps all.
    """

    def __init__(self, folder: Path, max_checkpoints: int | None) -> None:
        self._folder, self._max_checkpoints = folder, max_checkpoints

    def save_checkpoint(self, step: int, payload: dict[str, Any]) -> Path:
        path = checkpoint.save(self._folder / f"model-{step}.pt", payload)
        if self._max_checkpoints is not None:
            written = checkpoint.steps(self._folder, "model")
            for old in list(written.values())[: -self._max_checkpoints]:
                if old != path:
                    old.unlink()
        return path

    def save_resume_point(self, step: int, payload: dict[str, Any]) -> None:
        """In place of the one before."""
        path = checkpoint.save(self._folder / f"resume-{step}.pt", payload)
        self.remove_resume_points(but=path)

    def remove_resume_points(self, but: Path | None = None) -> None:
        for path in checkpoint.steps(self._folder, "resume").values():
            if path != but:
                path.unlink()

    def furthest(self) -> Path | None:
        """The file of the highest step, of either kind."""
        return checkpoint.furthest(self._folder, "model", "resume")


def capture(trainer: Trainer, totals: Tensor) -> dict[str, Any]:
    """Everything that the rest of the run depends on, and the model's description.

    Args:
        trainer: whose state it is.
        totals: the running sums of its metrics on every process, ``[processes, 2]``.
    """
    return {
        "step": trainer.step,
        "model": trainer.diffusion_model.state_dict(),
        "opt": trainer.optimizer.state_dict(),
        "ema": trainer.ema.state_dict(),
        "scaler": None,
        # What follows is ours; files of the 2023 release end above.
        "layout": model_io.layout_to_plain(trainer.layout),
        "config": model_io.describe(trainer.diffusion_model),
        "scheduler": {"name": trainer.lr_scheduler, "total_steps": trainer.train_num_steps},
        "rng": trainer.generator.get_state(),
        "data_order": trainer.rows.generator.get_state(),
        "metrics": {"totals": totals, "steps": trainer.steps_in_totals},
    }


def restore(trainer: Trainer, payload: dict[str, Any], source: str) -> None:
    """Put a checkpoint's state into a trainer of the same model; see ``Trainer.load``."""
    if missing := [key for key in ("step", "model", "opt", "ema") if key not in payload]:
        raise CheckpointError(f"{source}: has no '{missing[0]}', expected a training checkpoint")
    model_io.load_weights(trainer.diffusion_model, payload["model"], source)
    # Older versions of ema-pytorch keep its counters as [1], newer ones as [].
    counters = {key: payload["ema"][key].reshape(()) for key in ("initted", "step")}
    model_io.load_weights(trainer.ema, {**payload["ema"], **counters}, source)
    load_optimizer(trainer.optimizer, payload["opt"], source)
    trainer.step = int(payload["step"])
    generators = {"rng": trainer.generator, "data_order": trainer.rows.generator}
    for key, generator in generators.items():
        state = payload.get(key)
        # A state fits its own kind of device; a run that moves to another starts new streams.
        if state is not None and state.shape == generator.get_state().shape:
            generator.set_state(state)
    if "metrics" in payload:
        totals = payload["metrics"]["totals"].reshape(-1, 2)
        same = len(totals) == trainer.processes.count
        trainer.totals.copy_(totals[trainer.processes.rank] if same else totals.mean(dim=0))
        trainer.steps_in_totals = payload["metrics"]["steps"]

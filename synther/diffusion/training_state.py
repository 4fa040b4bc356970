"""What a training checkpoint holds, and how a trainer goes on from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synther.checkpoint import CheckpointError
from synther.diffusion import model_io
from synther.diffusion.optimisation import load_optimizer

if TYPE_CHECKING:
    from synther.diffusion.trainer import Trainer


def capture(trainer: Trainer) -> dict[str, Any]:
    """Everything that the rest of the run depends on, and the model's description."""
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
        "metrics": {"totals": trainer.totals, "steps": trainer.steps_in_totals},
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
        trainer.totals.copy_(payload["metrics"]["totals"])
        trainer.steps_in_totals = payload["metrics"]["steps"]

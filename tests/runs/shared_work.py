"""What each of several processes does in test_processes.py: ``python -m ... FOLDER``.

It writes what it found to ``FOLDER/rank-{rank}.pt``.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.training.trainer import Trainer, TrainingDivergedError
from synther.runs import clock
from synther.runs.loggers import Logger
from synther.runs.processes import Processes, accelerator_for
from tests.diffusion.models import LAYOUT, tiny_model, tiny_trainer

STEPS = 160
BATCH = 33  # two shares of it are not of one size
ROWS, SAMPLE_BATCH = 1130, 100  # twelve batches, the last one shorter


def trainer_of(folder: Path | None, steps: int = STEPS, **options: Any) -> Trainer:
    options = {"small_batch_size": BATCH, "log_every": 10, **options}
    return tiny_trainer(folder, steps, **options)


def state(trainer: Trainer) -> dict[str, Any]:
    """All that the run's future depends on; the EMA holds the trained weights too."""
    return {
        "ema": trainer.ema.state_dict(),
        "opt": trainer.training_step.optimizer.state_dict()["state"],
        "rng": trainer.training_step.generator.get_state(),
        "order": trainer.rows.generator.get_state(),
        "totals": trainer.training_step.totals,
        "step": trainer.step,
    }


def generator_of(trainer: Trainer) -> SimpleDiffusionGenerator:
    return SimpleDiffusionGenerator(
        LAYOUT, trainer.ema.ema_model, num_sample_steps=4, sample_batch_size=SAMPLE_BATCH
    )


def work(folder: Path, processes: Processes) -> dict[str, Any]:
    found: dict[str, Any] = {
        "first's": processes.decided_by_first(f"rank {processes.rank}"),
        "agree": [processes.all_agree(True), processes.all_agree(processes.is_first)],
        "gathered": processes.gather(torch.tensor([processes.rank, 7])),
    }
    # The first process's weights and seed are everyone's.
    whole = trainer_of(folder / "whole", model=tiny_model(seed=processes.rank), seed=None)
    found["start"] = state(whole)

    whole = trainer_of(folder / "whole", save_and_sample_every=75, max_checkpoints=2)
    with Logger(folder / f"log-{processes.rank}") as whole.logger:
        whole.train()
    found["whole"] = state(whole)

    resumed = trainer_of(folder / "whole", model=tiny_model(seed=9), seed=77)
    resumed.load(150)
    resumed.train()
    found["resumed"] = state(resumed)

    accumulated = trainer_of(None, 20, gradient_accumulate_every=3)
    accumulated.train()
    found["accumulated"] = state(accumulated)

    larger = trainer_of(None, 20, split_batches=False)
    larger.train()
    found["larger"] = (larger.batch_size, state(larger))

    # Only the first process's clock says that a resume point is due, and that at once.
    clock.WRITING_SHARE = 1e9
    timed = trainer_of(folder / "timed", 30, resume_every=1e-9 if processes.is_first else 1e9)
    found["resume points"] = points = []
    save = timed._save_resume_point
    timed._save_resume_point = lambda: (save(), points.append(timed.step))  # type: ignore
    timed.train(25)

    generator_of(whole).sample_to_file(ROWS, folder / "samples.npz", seed=5, processes=processes)

    diverging = trainer_of(folder / "diverging", 60, save_and_sample_every=20)
    diverging.train(20)
    if not processes.is_first:
        diverging.rows.rows[:] = 1e30
    try:
        diverging.train()
    except TrainingDivergedError as error:
        found["diverged"] = str(error)
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    accelerator = accelerator_for(torch.device("cpu"))
    processes = Processes(accelerator)
    torch.save(work(folder, processes), folder / f"rank-{processes.rank}.pt")
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main()

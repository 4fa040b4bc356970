"""What a killed run goes on from: written whole or not at all, and bounded on disk.

In the run's folder: ``checkpoint-{step}.pt`` (the newest alone), the real rows as
:class:`~synther.online.row_log.RowLog` keeps them, and ``synthetic-{refill}.npy``, which is written
once a refill.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from synther.files import atomic, checkpoint
from synther.online.row_log import RowLog, load_rows, save_rows
from synther.runs.folder import PREFIX

if TYPE_CHECKING:
    from synther.online.loop import OnlineRun

console = Console()


class RunState:
    """Saves an online run into ``folder`` and restores it from there."""

    def __init__(self, folder: Path, run: OnlineRun) -> None:
        self.folder, self.run = folder, run
        self.rows = RowLog(folder / "replay")

    def save(self) -> None:
        """A checkpoint of where the run stands; files of the one before go when it is there."""
        run, agent = self.run, self.run.agent
        self.rows.write(agent.replay, run.step)
        synthetic = self._synthetic_path(run.refills)
        if len(agent.synthetic) and not synthetic.exists():
            save_rows(synthetic, agent.synthetic.valid_rows())
        checkpoint.save(self.folder / f"{PREFIX}-{run.step}.pt", self._capture())
        self._tidy()

    def _tidy(self) -> None:
        """Remove all but what the newest checkpoint needs: earlier ones, and what was written for
        one that a kill cut off (rows that the run may draw otherwise when it comes there again).
        """
        run = self.run
        for step, path in checkpoint.steps(self.folder, PREFIX).items():
            if step != run.step:
                path.unlink()
        for path in self.folder.glob("synthetic-*.npy"):
            if path != self._synthetic_path(run.refills):
                path.unlink()
        self.rows.tidy(run.agent.replay, run.step)
        for folder in (self.folder, self.rows.folder):
            atomic.remove_partials(folder)

    def _capture(self) -> dict[str, Any]:
        run, agent = self.run, self.run.agent
        return {
            **{name: getattr(run, name) for name in _NUMBERS},
            "finished": run.finished,
            "totals": run.totals.state_dict(),
            "observation": torch.from_numpy(run.observation.copy()),
            "environment": run.snapshots.take(),
            "agent": agent.training_state(),
            "generators": {key: each.get_state() for key, each in agent.generators.items()},
            "synthetic_rows": len(agent.synthetic),
            "refill": run.refill.state_dict(),
        }

    def restore(self) -> bool:
        """Put the newest checkpoint's state into the run; False where there is none.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        path = checkpoint.latest(self.folder, PREFIX)
        if path is None:
            self._tidy()
            return False
        state, run, agent = checkpoint.load(path), self.run, self.run.agent
        with checkpoint.fitting(path, "not a checkpoint of this run"):
            for name in _NUMBERS:
                setattr(run, name, state[name])
            run.finished = state["finished"]
            run.totals.load_state_dict(state["totals"])
            run.totals.rows = run.totals.rows.to(run.device)
            run.refill.load_state_dict(state["refill"])
            agent.load_training_state(state["agent"])
            for key, generator in agent.generators.items():
                generator.set_state(state["generators"][key])
        self.rows.read(agent.replay, run.step)
        if count := state["synthetic_rows"]:
            width = agent.synthetic.layout.row_dim
            agent.synthetic.insert(load_rows(self._synthetic_path(run.refills), count, width))
        self._tidy()
        if state["environment"] is None:
            console.print(
                f"{run.config.env_name} cannot be put back where it stood: a new episode begins"
            )
            run.begin_other_episode()
        else:
            run.snapshots.put_back(state["environment"])
            run.observation = state["observation"].numpy()
        return True

    def _synthetic_path(self, refills: int) -> Path:
        return self.folder / f"synthetic-{refills}.npy"


_NUMBERS = ("step", "epochs", "refills", "seconds", "episode_return", "episode_length", "_reseed")

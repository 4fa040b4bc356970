"""Behaviour cloning: an algorithm of your own in one file, which nothing else has to know of.

    python3 examples/new_algorithm.py --env hopper-demo-v0 --max_timesteps 2000 --eval_freq 1000

It also takes synthetic transitions (``--diffusion.path``), writes and resumes runs
(``--checkpoints_path``, ``--resume``) and trains several seeds at once (``--num_seeds``). A study
names it by its path, ``algorithms: [examples/new_algorithm.py]``, and reports call it BC.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from synther.corl.shared.command import command
from synther.corl.shared.config import RunConfig
from synther.learning.learner import Agent, Dims, Metrics, adam
from synther.learning.nets import StackedMLP
from synther.learning.replay import Batch


@dataclass
class BCConfig(RunConfig):
    name: str = "BC"
    learning_rate: float = 3e-4
    network_width: int = 256


class BC(Agent):
    def __init__(
        self,
        config: BCConfig,
        dims: Dims,
        generators: list[torch.Generator],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config.compile)
        widths = [dims.state, config.network_width, config.network_width, dims.action]
        self.actor = StackedMLP([len(generators)], widths, generators).to(device)
        self.optimizer = adam(self.actor.parameters(), config.learning_rate)

    def act(self, states: Tensor) -> Tensor:
        return self.actor(states).tanh()

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        errors = self.act(batch.states) - batch.actions  # [seeds, rows, action columns]
        losses = errors.square().mean(dim=(1, 2))
        return losses.sum(), {"cloning_loss": losses.detach()}

    def update(self, batch: Batch, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        return self.descend(self.optimizer, self.loss, batch)


if __name__ == "__main__":
    command(BCConfig, BC)

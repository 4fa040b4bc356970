"""Relevance says which real rows the samples of a refill should be like.

Prioritised generative replay (PGR, Wang et al. 2025, arXiv 2410.18082) trains the diffusion model
with the relevance of each row as its condition, and asks for that of the most relevant ones. Each
function here scores all rows that the real buffer holds at once; a new one is a function with the
decorator, and ``redq_sac.relevance`` may name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from synther.learning.learner import Dims, Learner, Metrics, adam
from synther.learning.nets import StackedMLP
from synther.learning.replay import Batch, RowBuffer
from synther.learning.streams import generators_for, restore_generators
from synther.online.redq_sac import REDQSACAgent

BLOCK_ROWS = 10_000
"""Rows that are scored together, which bounds the memory."""
NEIGHBOUR = 10
"""The density is estimated from the distance to this neighbour."""
REFERENCE_ROWS = 4096
"""Among so many rows, drawn without replacement."""


@dataclass(frozen=True)
class Scene:
    """What relevance may depend on.

    Args:
        replay: the real rows, scored in storage order.
        agent: as it is now.
        curiosity: its model of the environment, where there is one.
        returns: gives the discounted return that followed each row ``[size]``.
        generator: of all that is random, on the replay's device.
    """

    replay: RowBuffer
    agent: REDQSACAgent
    curiosity: Curiosity | None
    returns: Callable[[], Tensor]
    generator: torch.Generator

    def by_blocks(self, score: Callable[[Batch], Tensor]) -> Tensor:
        """``score`` of batches ``[1, n, ...] -> [n]``, of all rows ``[size]``."""
        positions = torch.arange(len(self.replay), device=self.replay.device)
        blocks = positions.split(BLOCK_ROWS)
        return torch.cat([score(self.replay.gather(each[None])) for each in blocks])


Relevance = Callable[[Scene], Tensor]
"""The relevance of all rows ``[size]``, in storage order; more is more relevant."""

RELEVANCE: dict[str, Relevance] = {}
"""Relevance functions by name."""


def register_relevance(name: str) -> Callable[[Relevance], Relevance]:
    """Function decorator: ``redq_sac.relevance`` may be ``name``."""

    def register(function: Relevance) -> Relevance:
        RELEVANCE[name] = function
        return function

    return register


@register_relevance("curiosity")
def curiosity(scene: Scene) -> Tensor:
    """The error of the forward model in feature space: what the agent does not know yet (PGR)."""
    assert scene.curiosity is not None
    return scene.by_blocks(scene.curiosity.scores)


@register_relevance("td_error")
def td_error(scene: Scene) -> Tensor:
    """``|y - Q(s, a)|``, the mean over the critics (prioritised replay, Schaul et al. 2016); y is
    of one action of the policy, and of the minimum, or mean, over all target critics."""
    agent = scene.agent

    def score(rows: Batch) -> Tensor:
        shape = (*rows.actions.shape[:2], agent.dims.action)
        noise = torch.randn(shape, generator=scene.generator, device=rows.actions.device)
        target = agent.target(agent.target_inputs(rows, noise), None, None)
        q = agent.critics(rows.states, rows.actions)
        return (target.unsqueeze(1) - q).abs().mean(dim=1)[0, :, 0]

    return scene.by_blocks(score)


@register_relevance("q_value")
def q_value(scene: Scene) -> Tensor:
    """``Q(s, a)``, the mean over the critics."""
    critics = scene.agent.critics
    return scene.by_blocks(lambda rows: critics(rows.states, rows.actions).mean(dim=1)[0, :, 0])


@register_relevance("reward")
def reward(scene: Scene) -> Tensor:
    """The reward of the row."""
    return scene.by_blocks(lambda rows: rows.rewards[0, :, 0])


@register_relevance("return")
def discounted_return(scene: Scene) -> Tensor:
    """The discounted return that followed in the row's episode, as far as it is known."""
    return scene.returns()


@register_relevance("density")
def density(scene: Scene) -> Tensor:
    """Minus the log-likelihood of state and action, up to a constant: rare rows are relevant.

    It is estimated from the distance r to the tenth neighbour in standardised columns, as ``D log
    r`` (Loftsgaarden and Quesenberry 1965): the diffusion model's own likelihood costs hundreds of
    network calls a row, and at the first refill there is no model.
    """
    columns = scene.replay.layout.columns
    width = columns["actions"].stop
    rows = scene.replay.valid_rows()[:, :width]
    std, mean = torch.std_mean(rows, dim=0, correction=0)
    order = torch.randperm(len(rows), generator=scene.generator, device=rows.device)
    chosen = order[:REFERENCE_ROWS]
    reference = (rows[chosen] - mean) / (std + 1e-6)
    nearest = min(NEIGHBOUR, len(chosen) - 1)
    if nearest < 1:
        return rows.new_zeros(len(rows))
    scores = []
    for numbers in torch.arange(len(rows), device=rows.device).split(BLOCK_ROWS // 10):
        distances = torch.cdist((rows[numbers] - mean) / (std + 1e-6), reference)
        distances[numbers[:, None] == chosen] = torch.inf  # a row is no neighbour of itself
        radius = distances.kthvalue(nearest, dim=1).values
        scores.append(width * (radius + 1e-12).log())
    return torch.cat(scores)


@register_relevance("random")
def random(scene: Scene) -> Tensor:
    """Uniform numbers: the control, whose condition says nothing."""
    rows = scene.replay.valid_rows()
    return torch.rand(len(rows), generator=scene.generator, device=rows.device)


# ---- Curiosity ----
class Curiosity(Learner):
    """The intrinsic curiosity module (ICM, Pathak et al. 2017, arXiv 1705.05363) on states.

    Features phi(s) are those that tell the action from two states that follow each other: the
    inverse model's loss ``|a - a'(phi(s), phi(s'))|^2 / 2`` alone trains them. The forward model
    predicts ``phi(s')`` from ``phi(s)`` and a; its error ``|phi(s') - f(phi(s), a)|^2 / 2`` is the
    curiosity, and its loss, of equal weight, trains the forward model alone, so that features
    cannot become easy to predict.

    Args:
        dims: columns of a state and of an action.
        hidden: width of each network's hidden layer, and of the features.
        lr: the learning rate, the agent's.
        batch_size: rows of an update.
        seed: of weights and batches, a stream of its own.
        device: of the networks.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        hidden: int,
        lr: float,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__("off")
        self.batch_size = batch_size
        (self._generator,) = generators_for([seed], "relevance", device)
        # Not the seed of the batches; on the CPU, so that weights are the same on every device.
        init = [torch.Generator().manual_seed(self._generator.initial_seed() + 1)]
        self.features = StackedMLP([1], [dims.state, hidden, hidden], init)
        self.inverse = StackedMLP([1], [2 * hidden, hidden, dims.action], init)
        self.forward_model = StackedMLP([1], [hidden + dims.action, hidden, hidden], init)
        self.to(device)
        self.optimizer = adam(self.parameters(), lr)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Both losses of a batch ``[1, B, ...]``, each the mean over the rows."""
        before, after = self._features(batch)
        inverse = self.inverse(torch.cat([before, after], dim=-1)) - batch.actions
        forward = self._forward_error(before.detach(), after.detach(), batch.actions)
        losses = inverse.square().sum(dim=-1).mean(dim=1) / 2
        errors = forward.mean(dim=1)
        metrics = {"LossInverse": losses.detach(), "LossForward": errors.detach()}
        return (losses + errors).sum(), metrics

    def learn(self, replay: RowBuffer) -> Metrics:
        """Take one step on real rows."""
        batch = replay.sample(self.batch_size, [self._generator])
        return self.descend(self.optimizer, self.loss, batch)

    @torch.no_grad()
    def scores(self, batch: Batch) -> Tensor:
        """The forward model's error of each row ``[1, n, ...] -> [n]``."""
        before, after = self._features(batch)
        return self._forward_error(before, after, batch.actions)[0]

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self.load_training_state(state["training"])
        restore_generators([self._generator], [state["stream"]])

    def state(self) -> dict[str, Any]:
        """All that further steps depend on."""
        return {"training": self.training_state(), "stream": self._generator.get_state()}

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        both = self.features(torch.cat([batch.states, batch.next_states], dim=1))
        before, after = both.chunk(2, dim=1)
        return before, after

    def _forward_error(self, before: Tensor, after: Tensor, actions: Tensor) -> Tensor:
        """``[1, B]``."""
        expected = self.forward_model(torch.cat([before, actions], dim=-1))
        return (after - expected).square().sum(dim=-1) / 2

"""Regressions by a stack of networks whose columns each stop at the moment that suits them.

Members of the stack differ by their initial weights, their batches and, where wanted, the rows they
draw from. Their weights are averaged with a window that grows with the number of steps (the
power-function average of Karras et al. 2024, arXiv 2312.02696), so that the average at any step is
as good as the end of a run of that length. A column takes the moment that held-out rows like best:
an early one where the data are noisy and more training would learn the noise, else the last.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synther.learning.learner import adam
from synther.learning.nets import StackedMLP, move_targets
from synther.learning.streams import generators_for
from synther.runs import runtime
from synther.runs.loggers import progress_bar

AVERAGE_POWER = 8.0
"""The power of the average of the weights, in which about the last eighth of the steps counts."""
MOMENTS = (8, 4, 2, 1)
"""The averaged weights are kept after these fractions of the steps: an eighth, ..., all."""
WARM_UP = 100
"""Steps in which the learning rate rises to its value."""
ROWS_PER_CALL = 10_000
"""Rows in one call of the networks outside training, which bounds the memory."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of outputs ``[..., B, C]`` and targets ``[..., B, C]`` that gives the loss of each
element, at least 0."""


@dataclass(frozen=True)
class Size:
    """How large a stack of networks is, and how long it trains.

    Args:
        members: the number of networks.
        width: the width of the two hidden layers.
        steps: training steps.
        batch_size: the rows of a step, for each member.
        learning_rate: Adam's.
    """

    members: int
    width: int
    steps: int
    batch_size: int = 256
    learning_rate: float = 1e-3


class StackedRegression(nn.Module):
    """Fitted networks, as they were at several moments of training, of which a column takes one.

    Args:
        networks: one for each moment, a stack of ``M`` members; none where there are no columns.
        moment: ``[C]``, the index of the network that a column takes.
    """

    def __init__(self, networks: Sequence[StackedMLP], moment: Tensor) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.moment: Tensor
        self.register_buffer("moment", moment)

    def shape(self) -> dict[str, int]:
        """The arguments with which :meth:`empty` makes one of this shape."""
        if not self.networks:
            return {"inputs": 0, "columns": 0, "members": 1, "width": 0, "moments": 0}
        layers = self.networks[0].layers
        members, inputs, width = layers[0].weight.shape  # type: ignore[index, union-attr]
        columns = layers[-1].weight.shape[2]  # type: ignore[index, union-attr]
        return {
            **{"inputs": inputs, "columns": columns, "members": members, "width": width},
            **{"moments": len(self.networks)},
        }

    @classmethod
    def empty(
        cls, *, inputs: int, columns: int, members: int, width: int, moments: int
    ) -> StackedRegression:
        """One to load weights into."""
        size = Size(members, width, steps=0)
        networks = [_network(inputs, columns, size, seed=0) for _ in range(moments)]
        return cls(networks, torch.zeros(columns, dtype=torch.int64))

    @torch.no_grad()
    def shift(self, by: Tensor) -> None:
        """Add ``by`` ``[C]`` to what every member says."""
        for network in self.networks:
            network.layers[-1].bias += by  # type: ignore[index, union-attr]

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """What each member says of inputs ``[N, I]``: ``[M, N, C]``."""
        if not self.networks:
            return inputs.new_zeros(1, len(inputs), 0)
        parts = []
        for rows in inputs.split(ROWS_PER_CALL):
            outputs = torch.stack([_of_members(network, rows) for network in self.networks])
            index = self.moment.expand(1, *outputs.shape[1:])
            parts.append(outputs.gather(0, index)[0])
        return torch.cat(parts, dim=1)


def fit(
    training: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    *,
    loss: Loss,
    size: Size,
    seed: int,
    description: str,
    pools: Tensor | None = None,
) -> StackedRegression:
    """Train a stack on the sum over columns of the root of a column's mean loss.

    With squared errors that is the sum of root mean squared errors: a column of large irreducible
    noise then does not drown those that can be predicted.

    Args:
        training, held_out: inputs ``[N, I]`` and targets ``[N, C]``, on the device to train on.
        loss: the loss of an element.
        size: the size of the networks and of their training.
        seed: it decides initial weights and batches; on a CPU the same seed gives the same bits.
        description: the progress bar's.
        pools: ``[M, n]``, the numbers of the training rows that each member draws from; None lets
            all members draw from all rows.
    """
    inputs, targets = training
    if targets.shape[1] == 0:
        return StackedRegression([], torch.zeros(0, dtype=torch.int64, device=inputs.device))
    network = _network(inputs.shape[1], targets.shape[1], size, seed).to(inputs.device)
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimizer = adam(network.parameters(), size.learning_rate)
    (order,) = generators_for([seed], "data", inputs.device)
    moments = {max(1, size.steps // part) for part in MOMENTS}
    snapshots = []
    with (
        runtime.cpu_threads(runtime.RL_THREADS),
        progress_bar(size.steps, description) as bar,
    ):
        for step in range(1, size.steps + 1):
            rows = _drawn(len(inputs), size, order, pools)
            errors = loss(network(inputs[rows]), targets[rows]).mean(dim=1)
            for group in optimizer.param_groups:
                group["lr"] = size.learning_rate * min(1.0, step / WARM_UP)
            optimizer.zero_grad()
            errors.clamp_min(1e-12).sqrt().sum().backward()
            optimizer.step()
            move_targets(averaged, network, (AVERAGE_POWER + 1) / (step + AVERAGE_POWER))
            if step in moments:
                snapshots.append(copy.deepcopy(averaged))
            bar.update()
        return _chosen(snapshots, held_out, loss)


def _network(inputs: int, columns: int, size: Size, seed: int) -> StackedMLP:
    seeds = [seed + member for member in range(size.members)]
    widths = [inputs, size.width, size.width, columns]
    return StackedMLP((size.members,), widths, generators_for(seeds, "init"))


def _drawn(count: int, size: Size, order: torch.Generator, pools: Tensor | None) -> Tensor:
    """The numbers of the rows of a step, ``[M, B]``."""
    high = count if pools is None else pools.shape[1]
    shape = (size.members, size.batch_size)
    drawn = torch.randint(high, shape, generator=order, device=order.device)
    return drawn if pools is None else pools.gather(1, drawn)


def _chosen(
    snapshots: Sequence[StackedMLP], held_out: tuple[Tensor, Tensor], loss: Loss
) -> StackedRegression:
    """Let each column take its best moment on held-out rows, and drop moments that none takes."""
    inputs, targets = held_out
    first = torch.zeros(targets.shape[1], dtype=torch.int64, device=targets.device)
    scores = [
        loss(StackedRegression([each], first)(inputs).mean(dim=0), targets).mean(dim=0)
        for each in snapshots
    ]
    used, moment = torch.stack(scores).argmin(dim=0).unique(return_inverse=True)
    return StackedRegression([snapshots[int(index)] for index in used], moment)


def _of_members(network: nn.Module, inputs: Tensor) -> Tensor:
    members = len(network.layers[0].weight)  # type: ignore[index, union-attr]
    return network(inputs.expand(members, *inputs.shape))

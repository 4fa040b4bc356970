"""A network can be replayed as a CUDA graph, with one launch in place of some thirty."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.learning.graphs import aside, capture

WARM_UP = 3
"""The number of eager calls that CUDA graphs ask for before a capture."""


class GraphedNetwork(nn.Module):
    """A network ``F(x [B, D], c_noise, cond)`` that is captured for the first shapes it is called
    with, and replayed from then on; calls of other shapes, such as a shorter last batch, and calls
    with gradients run eagerly.

    What changes from call to call comes in through fixed tensors; the output is a copy of its own.

    Args:
        net: the network, on a CUDA device, with its final weights.

    Raises:
        ValueError: another device.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if next(net.parameters()).device.type != "cuda":
            raise ValueError("a graphed step needs a CUDA device; switch it off")
        self.net = net
        self._shapes: tuple[Any, ...] | None = None
        self._calls = 0
        self._inputs: list[Tensor | None] = []
        self._output: Tensor | None = None
        self._graph = torch.cuda.CUDAGraph()

    def forward(self, x: Tensor, timesteps: Tensor, cond: Tensor | None = None) -> Tensor:
        inputs = [x, timesteps, cond]
        shapes = tuple(None if each is None else (each.shape, each.dtype) for each in inputs)
        self._shapes = self._shapes or shapes
        if shapes != self._shapes or torch.is_grad_enabled():
            return self.net(*inputs)
        self._calls += 1
        if self._calls <= WARM_UP:
            return self.net(*inputs)
        if self._output is None:
            self._capture(inputs)
        for fixed, given in zip(self._inputs, inputs, strict=True):
            if fixed is not None and given is not None:
                fixed.copy_(given)
        self._graph.replay()
        assert self._output is not None
        return self._output.clone()

    def _capture(self, inputs: list[Tensor | None]) -> None:
        self._inputs = [None if each is None else each.clone() for each in inputs]
        stream = torch.cuda.Stream(next(self.net.parameters()).device)
        with aside(stream):
            self.net(*self._inputs)
        with capture(self._graph, stream):
            self._output = self.net(*self._inputs)


def graphed(model: ElucidatedDiffusion) -> ElucidatedDiffusion:
    """A copy of the model whose network is replayed as one CUDA graph."""
    twin = copy.deepcopy(model)
    twin.net = GraphedNetwork(twin.net)
    return twin

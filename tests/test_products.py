"""The operations that the speed benchmarks count, against their number in closed form."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from synther.learning.relu_mlp import BLOCK_ROWS, ReluMLP

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("rows", [100, 3 * BLOCK_ROWS])
def test_all_products_of_a_network_are_counted(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows at once, and many in blocks, whose gradients are summed in place."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from products import operations_of

    widths, members = [5, 8, 7, 1], 2
    parameters = []
    for inputs, outputs in itertools.pairwise(widths):
        parameters += [torch.randn(members, inputs, outputs), torch.randn(members, 1, outputs)]
    parameters = [each.requires_grad_() for each in parameters]
    states = torch.randn(members, rows, widths[0])

    def work() -> None:
        torch.autograd.grad(ReluMLP.apply(states, *parameters).sum(), parameters)

    layers = [2 * members * rows * a * b for a, b in itertools.pairwise(widths)]
    # Forward, the weights' gradients, and all layers' inputs' but the first.
    assert operations_of(work) == 3 * sum(layers) - layers[0]

import pytest
import torch
from torch import nn

from synther.diffusion.training.step import adamw, clipped_step, load_optimizer
from synther.files.checkpoint import CheckpointError

pytestmark = pytest.mark.arithmetic


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_step_scales_gradients_down_to_the_norm_and_no_further(max_norm):
    """Read off Adam's first moment, which is (1 - beta1) times the clipped gradient."""
    layer = nn.Linear(3, 2)
    optimizer = adamw(layer, 1e-3, (0.9, 0.99), 0.0)
    (layer(torch.ones(4, 3)) * 10).sum().backward()
    gradient = layer.weight.grad.clone()
    expected = torch.cat([p.grad.flatten() for p in layer.parameters()]).norm()
    norm = clipped_step(optimizer, max_norm, rate=1e-3)
    torch.testing.assert_close(norm, expected)
    moment = optimizer.state[layer.weight]["exp_avg"]
    scale = min(1.0, max_norm / float(expected))
    torch.testing.assert_close(moment, 0.1 * scale * gradient)


def test_rate_is_the_callers():
    layer = nn.Linear(3, 2)
    optimizer = adamw(layer, 1.0, (0.9, 0.99), 0.0)
    layer(torch.ones(4, 3)).sum().backward()
    before = layer.bias.detach().clone()
    clipped_step(optimizer, 1.0, rate=0.25)
    # Adam's first step is the rate, whatever the gradient.
    torch.testing.assert_close(layer.bias.detach(), before - 0.25)


def test_moments_of_another_network_are_refused():
    optimizer = adamw(nn.Linear(3, 2), 1e-3, (0.9, 0.99), 0.0)
    other = nn.Linear(4, 2)
    theirs = adamw(other, 1e-3, (0.9, 0.99), 0.0)
    other(torch.ones(1, 4)).sum().backward()
    theirs.step()
    with pytest.raises(CheckpointError, match=r"state 0 is \(2, 4\), not \(2, 3\)"):
        load_optimizer(optimizer, theirs.state_dict())
    deeper = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    theirs = adamw(deeper, 1e-3, (0.9, 0.99), 0.0)
    with pytest.raises(CheckpointError, match=r"optimiser of \[2, 2\] parameters"):
        load_optimizer(optimizer, theirs.state_dict())

import copy

import pytest
import torch
from torch import nn

from synther.diffusion.training.optimizer import adamw, clipped_step, load_optimizer
from synther.diffusion.training.step import TrainingStep
from synther.files.checkpoint import CheckpointError
from synther.runs.processes import accelerator_for
from tests.diffusion.models import random_rows, tiny_model


def tiny_step(seed: int = 0) -> TrainingStep:
    return TrainingStep(
        tiny_model(seed=seed),
        accelerator_for(torch.device("cpu")),
        seed=seed,
        num_steps=200,
        learning_rate=1e-2,
        schedule="cosine",
        betas=(0.9, 0.99),
        weight_decay=0.0,
        max_grad_norm=1.0,
        ema_update_every=10,
        ema_decay=0.9,
        precision="fp32",
    )


def test_a_step_goes_on_from_another_ones_state_bit_for_bit():
    """Past the start of the average, at step 100; the state is all that passes between them."""
    batch = torch.from_numpy(random_rows(32))
    whole, other = tiny_step(), tiny_step(seed=5)
    for _ in range(115):
        whole.update([batch])
    other.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert other.step == 115
    losses = [[float(step.update([batch])) for _ in range(20)] for step in (whole, other)]
    assert losses[0] == losses[1]
    assert whole.metrics() == other.metrics()
    for name, value in whole.ema.state_dict().items():
        assert torch.equal(other.ema.state_dict()[name], value), name


@pytest.mark.parametrize("key", ["step", "model", "opt", "ema"])
def test_a_state_that_lacks_a_part_is_refused_and_changes_nothing(key):
    step, state = tiny_step(), tiny_step(seed=5).state_dict()
    del state[key]
    before = copy.deepcopy(step.diffusion_model.state_dict())
    with pytest.raises(CheckpointError, match=f"has no '{key}', expected a training checkpoint"):
        step.load_state_dict(state)
    for name, value in step.diffusion_model.state_dict().items():
        assert torch.equal(before[name], value)


def test_a_loss_is_a_mean_over_the_batch_times_its_weight():
    """EDM's equation 8, spelled out in float64 with the noise that the step draws."""
    step = tiny_step()
    batch = torch.from_numpy(random_rows(32))
    generator = torch.Generator().manual_seed(0)
    model = copy.deepcopy(step.diffusion_model).double()
    sigma = (-1.2 + 1.2 * torch.randn(32, generator=generator)).exp().double()
    noise = torch.randn(32, 10, generator=generator).double()
    rows = model.normalizer.normalize(batch.double())
    denoised = model.preconditioned_network_forward(rows + sigma[:, None] * noise, sigma)
    weights = (sigma**2 + 1) / sigma**2
    expected = 0.25 * (weights * ((denoised - rows) ** 2).mean(dim=1)).mean()
    found = step._loss(step._draw(batch), 0.25)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


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

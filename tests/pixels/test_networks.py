"""Geometry, parameter counts and the random shift."""

import numpy as np
import pytest
import torch

from synther.pixels.networks import ConvEncoder, Trunk, random_shift, truncated_normal
from tests.pixels.helpers import agent

pytestmark = pytest.mark.arithmetic


@pytest.mark.parametrize(("size", "side"), [(84, 35), (64, 25)])
def test_the_encoder_has_the_geometry_of_drq(size: int, side: int) -> None:
    encoder = ConvEncoder(9, size, 32, torch.Generator())
    assert encoder.features == 32 * side * side
    images = torch.zeros(2, 9, size, size, dtype=torch.uint8)
    assert encoder(images).shape == (2, encoder.features)
    count = sum(each.numel() for each in encoder.parameters())
    assert count == (9 * 32 * 9 + 32) + 3 * (32 * 32 * 9 + 32) == 30_368


def test_parameters_of_the_whole_agent_at_84_pixels() -> None:
    whole = agent(image_size=84, channels=32, latent_dim=50, hidden_width=1024)
    count = {
        name: sum(each.numel() for each in module.parameters())
        for name, module in whole.named_children()
    }
    trunk = 39_200 * 50 + 50 + 2 * 50
    policy = 50 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 2 + 2
    critics = 2 * (52 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 + 1)
    assert count["encoder"] == 30_368
    assert count["actor_trunk"] == count["critic_trunk"] == count["target_trunk"] == trunk
    assert count["heads"] == policy + 2 * critics


def test_weights_are_orthogonal_and_biases_zero() -> None:
    encoder = ConvEncoder(9, 84, 32, torch.Generator().manual_seed(0))
    first = encoder.layers[0].weight.detach().flatten(1)
    assert torch.allclose(first @ first.T, 2 * torch.eye(32), atol=1e-5)  # gain sqrt(2)
    trunk = Trunk(70, 10, torch.Generator()).layers[0]
    assert torch.allclose(trunk.weight @ trunk.weight.T, torch.eye(10), atol=1e-5)
    assert not any(each.any() for name, each in encoder.named_parameters() if "bias" in name)


def test_too_small_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        ConvEncoder(9, 12, 4, torch.Generator())


def test_the_shift_is_a_crop_of_the_padded_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 9, 11, 11), dtype=torch.uint8, generator=generator)
    shifts = torch.randint(0, 9, (20, 2), generator=generator)
    shifts[:3] = torch.tensor([[0, 0], [8, 8], [4, 4]])
    moved = random_shift(images, shifts, 4).numpy()
    for picture, (top, left), found in zip(images.numpy(), shifts.tolist(), moved, strict=True):
        padded = np.pad(picture, ((0, 0), (4, 4), (4, 4)), mode="edge")
        assert np.array_equal(found, padded[:, top : top + 11, left : left + 11])
    assert np.array_equal(moved[2], images[2])


def test_the_noise_is_clipped_and_the_gradient_passes_the_bounds() -> None:
    mean = torch.tensor([0.0, 0.0, 0.95, -1.0], requires_grad=True)
    noise = torch.tensor([0.1, 5.0, 1.0, -1.0])
    actions = truncated_normal(mean, torch.tensor(0.5), noise, 0.3)
    assert actions.tolist() == pytest.approx([0.05, 0.3, 1 - 1e-6, -1 + 1e-6])
    actions.sum().backward()
    assert mean.grad is not None
    assert mean.grad.tolist() == [1, 1, 1, 1]

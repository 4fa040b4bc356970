"""Encoder, trunks and random shift are those of DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645)."""

from __future__ import annotations

import math
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

STRIDES = (2, 1, 1, 1)
KERNEL = 3


def orthogonal_init(weight: Tensor, bias: Tensor, generator: torch.Generator) -> None:
    """Make the weights of a stacked layer orthogonal and its biases 0."""
    nn.init.orthogonal_(weight, generator=generator)
    bias.zero_()


class ConvEncoder(nn.Module):
    """Four 3x3 convolutions with ReLU, strides 2, 1, 1, 1: uint8 pictures ``[N, C, H, H]`` as
    ``x / 255 - 0.5`` -> features ``[N, features]``, 32 * 35 * 35 of them at H = 84.

    Args:
        inputs: C, channels of a stack of pictures.
        image_size: H.
        channels: of each convolution.
        generator: of the weights, orthogonal with gain sqrt(2); biases are 0.
    """

    def __init__(
        self, inputs: int, image_size: int, channels: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        size = image_size
        for i, stride in enumerate(STRIDES):
            layer = nn.Conv2d(inputs if i == 0 else channels, channels, KERNEL, stride)
            nn.init.orthogonal_(layer.weight, math.sqrt(2), generator=generator)
            nn.init.zeros_(cast(Tensor, layer.bias))
            layers += [layer, nn.ReLU()]
            size = (size - KERNEL) // stride + 1
        if size < 1:
            raise ValueError(f"pictures of {image_size} pixels are too small for four convolutions")
        self.layers = nn.Sequential(*layers)
        self.features = channels * size * size

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.to(self.dtype) / 255 - 0.5).flatten(1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype


class Trunk(nn.Module):
    """Features ``[N, features]`` -> latents ``[N, latent_dim]`` in (-1, 1): Linear, LayerNorm,
    Tanh."""

    def __init__(self, features: int, latent_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        linear = nn.Linear(features, latent_dim)
        nn.init.orthogonal_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        self.layers = nn.Sequential(linear, nn.LayerNorm(latent_dim), nn.Tanh())

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


def random_shift(images: Tensor, shifts: Tensor, pad: int) -> Tensor:
    """Pictures moved by up to ``pad`` pixels, their border replicated (DrQ-v2, section 3.1).

    Args:
        images: ``[N, C, H, W]``, of any type.
        shifts: ``[N, 2]``, whole numbers from 0 to ``2 * pad``: the upper left corner of what is
            cut out of the padded picture, its row and column; ``pad`` leaves a picture as it is.
        pad: rows and columns added on each side.
    """
    count, _, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device) + shifts[:, :1] - pad
    columns = torch.arange(width, device=device) + shifts[:, 1:] - pad
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    numbers = torch.arange(count, device=device)[:, None, None]
    moved = images[numbers, :, rows[:, :, None], columns[:, None, :]]
    return rearrange(moved, "n h w c -> n c h w")


def truncated_normal(mean: Tensor, std: Tensor, noise: Tensor, clip: float) -> Tensor:
    """Actions ``mean + clip(std * noise)`` inside (-1, 1); the gradient passes the bounds as if
    there were none (DrQ-v2's TruncatedNormal).

    Args:
        mean: ``[..., A]`` in [-1, 1].
        std: a number.
        noise: standard normal ``[..., A]``.
        clip: the bound of ``std * noise``.
    """
    raw = mean + (std * noise).clamp(-clip, clip)
    bound = 1 - 1e-6
    return raw + (raw.clamp(-bound, bound) - raw).detach()

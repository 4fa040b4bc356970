"""The network F of the diffusion model is a residual MLP on a row and its noise level."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gin
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synther.ranges import Depth, Width, checked

NETWORKS: dict[str, type[nn.Module]] = {}
"""Networks by name, so that a checkpoint can be rebuilt from its configuration."""

NetworkT = TypeVar("NetworkT", bound=type[nn.Module])

BLOCK_ROWS = 4096
"""Rows that go through all layers together, where memory is used again."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def register_network(network: NetworkT) -> NetworkT:
    """Class decorator: gin files and checkpoints may name this network.

    It is found by itself in a file beside this one whose name ends in ``_network.py``.

    Its constructor takes ``d_in`` and ``cond_dim`` beside arguments of its own, and it keeps all of
    them, as plain values, in ``config``.
    """
    NETWORKS[network.__name__] = network
    return network


def default_arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments with a default and their defaults; gin's bindings play no part in it."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


class FourierFeatures(nn.Module):
    """``c [B] -> [c, sin(2 pi w c), cos(2 pi w c)] [B, 2 H + 1]``, Gaussian frequencies ``w [H]``.

    Args:
        dim: 2 H, twice the number of frequencies.
        learned: whether the frequencies are trained.
    """

    def __init__(self, dim: int, *, learned: bool = False) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"learned_sinusoidal_dim is {dim}, expected a positive even number")
        self.weights = nn.Parameter(torch.randn(dim // 2), requires_grad=learned)

    def forward(self, c: Tensor) -> Tensor:
        phases = c[:, None] * self.weights * (2 * math.pi)
        return torch.cat([c[:, None], phases.sin(), phases.cos()], dim=-1)


class SinusoidalFeatures(nn.Module):
    """The fixed geometric frequencies of transformers, ``c [B] -> [B, dim]``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"dim_t is {dim}, expected an even number of 4 or more")
        self.frequencies = dim // 2

    def forward(self, c: Tensor) -> Tensor:
        exponents = torch.arange(self.frequencies, device=c.device) / (self.frequencies - 1)
        phases = c[:, None] * torch.exp(-math.log(10_000) * exponents)
        return torch.cat([phases.sin(), phases.cos()], dim=-1)


class ResidualBlock(nn.Module):
    """``h <- h + Linear(act(LN?(h)))``."""

    def __init__(
        self, width: int, activation: Callable[[Tensor], Tensor], layer_norm: bool
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.ln = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.activation = activation

    def forward(self, h: Tensor) -> Tensor:
        change = self.linear(self.activation(self.ln(h)))
        # Nobody else holds the product's output: without gradients the sum needs no new memory.
        return change + h if torch.is_grad_enabled() else change.add_(h)


class ResidualMLP(nn.Module):
    """Linear in, ``num_layers`` residual blocks, an activation, linear out.

    ``reuse_buffers``: on a CPU and without gradients, ReLU networks without layer norm take rows in
    blocks of ``BLOCK_ROWS``, whose activations go into the same memory at every layer. The same
    numbers, without asking the system for tens of megabytes at each of them.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        num_layers: Depth,
        activation: Callable[[Tensor], Tensor],
        layer_norm: bool,
    ) -> None:
        super().__init__()
        blocks = (ResidualBlock(width, activation, layer_norm) for _ in range(num_layers))
        final_norm = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.network = nn.Sequential(nn.Linear(inputs, width), *blocks, final_norm)
        self.activation = activation
        self.final_linear = nn.Linear(width, outputs)
        self.reuse_buffers = activation is F.relu and not layer_norm

    def forward(self, x: Tensor) -> Tensor:
        if self.reuse_buffers and not torch.is_grad_enabled() and x.device.type == "cpu":
            return self._in_blocks(x)
        return self.final_linear(self.activation(self.network(x)))

    def _in_blocks(self, x: Tensor) -> Tensor:
        first, *rest = (layer for layer in self.modules() if isinstance(layer, nn.Linear))
        *blocks, last = rest
        outputs = x.new_empty(len(x), last.out_features)
        buffers = x.new_empty(3, min(len(x), BLOCK_ROWS), first.out_features)
        for rows, out in zip(x.split(BLOCK_ROWS), outputs.split(BLOCK_ROWS), strict=True):
            h, change, activations = buffers[:, : len(rows)]
            _linear(first, rows, out=h)
            for block in blocks:
                torch.clamp_min(h, 0, out=activations)
                _linear(block, activations, out=change).add_(h)
                h, change = change, h
            _linear(last, torch.clamp_min(h, 0, out=activations), out=out)
        return outputs


def _linear(layer: nn.Linear, x: Tensor, *, out: Tensor) -> Tensor:
    return torch.addmm(layer.bias, x, layer.weight.t(), out=out)


@gin.configurable
@register_network
class ResidualMLPDenoiser(nn.Module):
    """``F(x, c_noise)``: the row's projection plus the noise's embedding, through a residual MLP.

    The parameters' names are part of the checkpoint format, and their order of the optimiser's.

    Args:
        d_in: D, the columns of a row.
        dim_t: width of the noise embedding and of the row's projection.
        mlp_width: width of the residual MLP.
        num_layers: the number of its residual blocks.
        learned_sinusoidal_cond: Gaussian frequencies that are trained.
        random_fourier_features: Gaussian frequencies that stay as drawn (the default); with
            neither, fixed geometric ones.
        learned_sinusoidal_dim: twice the number of Gaussian frequencies.
        activation: the name of one of ``ACTIVATIONS``.
        layer_norm: whether there is one in each block and before the last layer.
        cond_dim: C, the columns of a condition that is joined to the row; None for no condition.
    """

    @checked
    def __init__(
        self,
        d_in: Width,
        dim_t: Width = 128,
        mlp_width: Width = 1024,
        num_layers: Depth = 6,
        learned_sinusoidal_cond: bool = False,
        random_fourier_features: bool = True,
        learned_sinusoidal_dim: Width = 16,
        activation: str = "relu",
        layer_norm: bool = False,
        cond_dim: Width | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "d_in": d_in,
            "dim_t": dim_t,
            "mlp_width": mlp_width,
            "num_layers": num_layers,
            "learned_sinusoidal_cond": learned_sinusoidal_cond,
            "random_fourier_features": random_fourier_features,
            "learned_sinusoidal_dim": learned_sinusoidal_dim,
            "activation": activation,
            "layer_norm": layer_norm,
            "cond_dim": cond_dim,
        }
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation '{activation}': expected one of {', '.join(ACTIVATIONS)}")
        self.cond_dim = cond_dim
        self.residual_mlp = ResidualMLP(
            dim_t, d_in, mlp_width, num_layers, ACTIVATIONS[activation], layer_norm
        )
        self.proj = nn.Linear(d_in + (cond_dim or 0), dim_t)
        features: nn.Module
        if random_fourier_features or learned_sinusoidal_cond:
            features = FourierFeatures(learned_sinusoidal_dim, learned=learned_sinusoidal_cond)
            feature_dim = learned_sinusoidal_dim + 1
        else:
            features, feature_dim = SinusoidalFeatures(dim_t), dim_t
        self.time_mlp = nn.Sequential(
            features, nn.Linear(feature_dim, dim_t), nn.SiLU(), nn.Linear(dim_t, dim_t)
        )

    def forward(self, x: Tensor, timesteps: Tensor, cond: Tensor | None = None) -> Tensor:
        """``x [B, D]``, ``timesteps`` (c_noise) ``[B]`` or ``[1]`` for all rows, ``cond [B, C]`` ->
        ``[B, D]``."""
        if (cond is None) != (self.cond_dim is None):
            raise ValueError(
                f"the network has cond_dim {self.cond_dim}, the condition is "
                f"{None if cond is None else tuple(cond.shape)}"
            )
        if cond is not None:
            x = torch.cat([x, cond], dim=-1)
        dtype: torch.dtype = self.proj.weight.dtype
        embedding = self.time_mlp(timesteps)
        return self.residual_mlp(self.proj(x.to(dtype)) + embedding.to(dtype))

    def products_in(self, dtype: torch.dtype) -> ResidualMLPDenoiser:
        """Turn the large layers to ``dtype``, in place; the noise embedding stays float32, since
        its sines need the digits."""
        self.proj.to(dtype)
        self.residual_mlp.to(dtype)
        return self


# At the end, because the files beside this one import from it.
for _file in pkgutil.iter_modules([str(Path(__file__).parent)]):
    if _file.name.endswith("_network"):
        importlib.import_module(f"{__package__}.{_file.name}")

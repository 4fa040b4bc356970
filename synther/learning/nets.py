"""Stacked layers are many small networks in one batched product.

Every network that learns in RL here has leading *stack* axes, ``[seeds]`` for actors and value
functions and ``[seeds, critics]`` for critics, also with one seed. A layer is one ``baddbmm`` over
all members, an ensemble costs one call, and N seeds of an experiment train in one process with
results that do not depend on each other. A loss is the mean over the batch and the *sum* over the
stack axes, so that gradients, and the optimiser's state, stay per member.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, distributions, nn

from synther.learning.relu_mlp import ReluMLP
from synther.runs.runtime import Precision

Initializer = Callable[[Tensor, Tensor, torch.Generator], None]
"""Fills one member's weight ``[in, out]`` and bias ``[1, out]`` from a generator."""


def torch_linear_init(weight: Tensor, bias: Tensor, generator: torch.Generator) -> None:
    """``nn.Linear``'s own initialisation: both uniform in +-1/sqrt(inputs)."""
    bound = 1 / math.sqrt(weight.shape[0])
    weight.uniform_(-bound, bound, generator=generator)
    bias.uniform_(-bound, bound, generator=generator)


class StackedLinear(nn.Module):
    """``y[s] = x[s] @ weight[s] + bias[s]`` for every member ``s`` of the stack.

    Args:
        stack: the leading axes, such as ``(seeds,)`` or ``(seeds, critics)``.
        inputs, outputs: the layer's widths.
        generators: one a seed (the first stack axis), so that seed k's weights are the same numbers
            whichever seeds train beside it.
        init: how a member's weight and bias are filled.

    ``weight`` is ``[*stack, inputs, outputs]``, ``bias`` ``[*stack, 1, outputs]``.
    """

    def __init__(
        self,
        stack: Sequence[int],
        inputs: int,
        outputs: int,
        generators: Sequence[torch.Generator],
        init: Initializer = torch_linear_init,
    ) -> None:
        super().__init__()
        if len(generators) != stack[0]:
            raise ValueError(f"{len(generators)} generators for {stack[0]} seeds")
        weight = torch.empty(*stack, inputs, outputs)
        bias = torch.empty(*stack, 1, outputs)
        for seed, generator in enumerate(generators):
            members = zip(
                weight[seed].reshape(-1, inputs, outputs),
                bias[seed].reshape(-1, 1, outputs),
                strict=True,
            )
            for member_weight, member_bias in members:
                init(member_weight, member_bias, generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[*stack, B, inputs]`` -> ``[*stack, B, outputs]``."""
        weight, bias = self.weight, self.bias
        if weight.ndim == 3:
            return torch.baddbmm(bias, inputs, weight)
        stack = weight.shape[:-2]
        flat = torch.baddbmm(bias.flatten(0, -3), inputs.flatten(0, -3), weight.flatten(0, -3))
        return flat.unflatten(0, stack)


class StackedLayerNorm(nn.Module):
    """Layer norm with a gain and a shift of each member (Ba et al. 2016, arXiv 1607.06450).

    ``weight`` and ``bias`` are ``[*stack, 1, width]``.
    """

    def __init__(self, stack: Sequence[int], width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*stack, 1, width))
        self.bias = nn.Parameter(torch.zeros(*stack, 1, width))


class StackedMLP(nn.Module):
    """Linear layers with ``activation`` between them; the last one's output is left as it is.

    Args:
        stack: leading axes, see :class:`StackedLinear`.
        widths: inputs, hidden widths, outputs.
        generators: one a seed.
        activation: between layers.
        init: of the hidden layers, ``last_init`` of the last one (the same where None).
        precision: with bf16 the products between hidden layers, nearly all of the work, are taken
            in bfloat16, in the gradient too; the first and the last layer, biases, activations and
            the weights themselves stay in float32.
        layer_norm: normalise each hidden layer before its activation.

    With ReLU and without layer norm, forward and backward are one autograd node (``fused``, see
    ``relu_mlp.py``). It cannot be differentiated twice: set ``fused`` to False for that.
    """

    def __init__(
        self,
        stack: Sequence[int],
        widths: Sequence[int],
        generators: Sequence[torch.Generator],
        *,
        activation: Callable[[Tensor], Tensor] = F.relu,
        init: Initializer = torch_linear_init,
        last_init: Initializer | None = None,
        precision: Precision = "fp32",
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        layers = len(widths) - 1
        inits = [init] * (layers - 1) + [last_init or init]
        self.layers = nn.ModuleList(
            StackedLinear(stack, widths[i], widths[i + 1], generators, inits[i])
            for i in range(layers)
        )
        self.activation = activation
        self.precision = precision
        if layer_norm:
            self.norms = nn.ModuleList(StackedLayerNorm(stack, each) for each in widths[1:-1])
        self.layer_norm = layer_norm
        self.fused = activation is F.relu and not layer_norm

    def forward(
        self,
        inputs: Tensor,
        *,
        frozen: bool = False,
        first: bool = False,
        members: Tensor | None = None,
    ) -> Tensor:
        """``[*stack, B, inputs]`` -> ``[*stack, B, outputs]``.

        Args:
            inputs: may lack the last stack axis; all its members then see the same.
            frozen: take the weights as constants, so that a gradient flows to ``inputs`` alone.
            first: the first member of the last stack axis alone; the output lacks that axis.
            members: ``[M]``, only these of the last stack axis, in this order.
        """
        weights = self.weights(frozen=frozen, first=first, members=members)
        stack = weights[0].shape[:-2]
        if inputs.ndim < weights[0].ndim:
            inputs = inputs.unsqueeze(-3).expand(*stack, *inputs.shape[-2:])
        hidden, weights = inputs.flatten(0, -3), [each.flatten(0, -3) for each in weights]
        if self.fused:
            return ReluMLP.apply(hidden, *weights).unflatten(0, stack)
        norms = self._norms(frozen=frozen, first=first, members=members)
        for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            product = torch.bmm(hidden.to(weight.dtype), weight)
            hidden = product.to(bias.dtype) + bias
            if self.layer_norm:
                gain, shift = (each.flatten(0, -3) for each in next(norms))
                hidden = F.layer_norm(hidden, hidden.shape[-1:]) * gain + shift
            hidden = self.activation(hidden)
        return torch.baddbmm(weights[-1], hidden, weights[-2]).unflatten(0, stack)

    def weights(
        self, *, frozen: bool = False, first: bool = False, members: Tensor | None = None
    ) -> list[Tensor]:
        """Weight and bias of each layer in turn, each weight in the type of its products.

        The arguments are those of :meth:`forward`.
        """
        layers = cast(Sequence[StackedLinear], self.layers)
        weights: list[Tensor] = [each for layer in layers for each in (layer.weight, layer.bias)]
        weights = _chosen(weights, frozen, first, members)
        if self.precision == "bf16":
            weights[2:-2:2] = [each.bfloat16() for each in weights[2:-2:2]]
        return weights

    def _norms(
        self, *, frozen: bool, first: bool, members: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Gain and shift of each hidden layer; none without layer norm."""
        for norm in cast(Sequence[StackedLayerNorm], self.norms if self.layer_norm else ()):
            gain, shift = _chosen([norm.weight, norm.bias], frozen, first, members)
            yield gain, shift


def _chosen(
    parameters: list[Tensor], frozen: bool, first: bool, members: Tensor | None
) -> list[Tensor]:
    """Of stacked parameters what :meth:`StackedMLP.forward` takes."""
    if first:
        parameters = [each.select(each.ndim - 3, 0) for each in parameters]
    if members is not None:
        parameters = [each.index_select(each.ndim - 3, members) for each in parameters]
    return [each.detach() for each in parameters] if frozen else parameters


class StackedCritic(nn.Module):
    """An ensemble of Q functions: states ``[seeds, B, O]`` and actions ``[seeds, B, A]`` ->
    ``[seeds, critics, B, 1]``."""

    def __init__(
        self,
        seeds: int,
        critics: int,
        state_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        generators: Sequence[torch.Generator],
        *,
        activation: Callable[[Tensor], Tensor] = F.relu,
        init: Initializer = torch_linear_init,
        last_init: Initializer | None = None,
        precision: Precision = "fp32",
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.mlp = StackedMLP(
            (seeds, critics),
            [state_dim + action_dim, *hidden, 1],
            generators,
            activation=activation,
            init=init,
            last_init=last_init,
            precision=precision,
            layer_norm=layer_norm,
        )

    def forward(
        self,
        states: Tensor,
        actions: Tensor,
        *,
        frozen: bool = False,
        first: bool = False,
        members: Tensor | None = None,
    ) -> Tensor:
        """Q values ``[seeds, critics, B, 1]``; see :meth:`StackedMLP.forward`.

        With ``frozen`` the gradient flows to ``actions`` alone, as a policy's loss wants it; with
        ``first`` the first critic alone answers: ``[seeds, B, 1]``; with ``members [M]`` only
        these do: ``[seeds, M, B, 1]``.
        """
        inputs = torch.cat([states, actions], dim=-1)
        return self.mlp(inputs, frozen=frozen, first=first, members=members)


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions of a squashed Gaussian and their log-densities (SAC, arXiv 1801.01290, app. C).

    Args:
        mean, log_std: of the Gaussian, ``[..., A]``.
        noise: standard normal; it broadcasts with them.

    Returns:
        ``tanh(mean + std * noise)`` ``[..., A]``, inside (-1, 1), and log-densities ``[..., 1]``.
    """
    raw = mean + log_std.exp() * noise
    return raw.tanh(), _squashed_log_density(raw, noise, log_std)


def squashed_gaussian_log_prob(mean: Tensor, log_std: Tensor, actions: Tensor) -> Tensor:
    """Log-densities ``[..., 1]`` of given actions ``[..., A]`` in [-1, 1]; see the function above.

    Actions at a bound, where the density is not defined, count as one rounding step inside it.
    """
    limit = 1 - torch.finfo(actions.dtype).eps
    raw = actions.clamp(-limit, limit).atanh()
    return _squashed_log_density(raw, (raw - mean) * (-log_std).exp(), log_std)


def squashed_normal(mean: Tensor, log_std: Tensor, bound: float) -> distributions.Distribution:
    """The same as a distribution of actions in ``[-bound, bound]``, a column each on its own."""
    law = distributions.Normal(mean, log_std.exp(), validate_args=False)
    maps = [distributions.TanhTransform(), distributions.AffineTransform(0.0, bound)]
    return distributions.TransformedDistribution(law, maps, validate_args=False)


def _squashed_log_density(raw: Tensor, noise: Tensor, log_std: Tensor) -> Tensor:
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_slope = 2 * (math.log(2) - raw - F.softplus(-2 * raw))  # log(1 - tanh^2), without overflow
    return (gaussian - log_slope).sum(dim=-1, keepdim=True)


@torch.no_grad()
def move_targets(targets: nn.Module, sources: nn.Module, rate: float) -> None:
    """``target <- target + rate * (source - target)`` for every parameter, in one fused call."""
    torch._foreach_lerp_(list(targets.parameters()), list(sources.parameters()), rate)

"""The ReLU networks of a stack are one autograd node.

The same as autograd on the layers one by one, but activations and their gradients are made in
place, and on a CPU many rows go through all layers in blocks that stay in its cache. Each layer's
products are taken in the type of its weight; everything else is in the type of the inputs: on CPUs
sums and ReLUs are slower in bfloat16, casts included. ``StackedMLP`` in ``nets.py`` is the way in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK_ROWS = 512
"""Rows of a block: activations of two layers 256 wide are 1 MiB, about half of a core's cache."""


class ReluMLP(torch.autograd.Function):
    """Inputs ``[N, B, I]``, weight, bias, weight, bias, ... -> outputs ``[N, B, outputs]``.

    It cannot be differentiated twice.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        *hidden, outputs = _way_forward(inputs)(inputs, list(weights), list(biases))
        ctx.save_for_backward(inputs, *hidden, *weights)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph: the second derivative would be lost in silence
            raise RuntimeError(
                "a fused StackedMLP cannot be differentiated twice; fused = False can"
            )
        layers = len(ctx.saved_tensors) // 2
        hidden, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        of_inputs, *of_parameters = ctx.needs_input_grad
        wanted = of_parameters[::2]
        if not _pays(hidden[0]):
            return tuple(_backward(gradient, hidden, weights, of_inputs, wanted))
        backward = _backward_op if torch.compiler.is_compiling() else _backward_in_blocks
        found = iter(backward(gradient, list(hidden), list(weights), of_inputs, wanted))
        return tuple([next(found) if each else None for each in ctx.needs_input_grad])


def _way_forward(inputs: Tensor) -> Any:
    """For many rows the operation as the compiler is to see it, or the function, whose products
    profilers see; for few the layers, and to the compiler those without work in place."""
    if torch.compiler.is_compiling():
        return _forward_op if _pays(inputs) else _forward_out_of_place
    return _forward_in_blocks if _pays(inputs) else _forward


def _pays(inputs: Tensor) -> bool:
    """Whether rows go in blocks: on a CPU, where they are many."""
    many = inputs.shape[0] * inputs.shape[1] > 2 * BLOCK_ROWS
    return many and not inputs.is_cuda


def _blocks(rows: int) -> list[slice | None]:
    """Of one member's rows; None stands for all of them, whose slice would be one more call."""
    if rows <= BLOCK_ROWS:
        return [None]
    return [slice(start, start + BLOCK_ROWS) for start in range(0, rows, BLOCK_ROWS)]


def _block(member: Tensor, rows: slice | None) -> Tensor:
    return member if rows is None else member[rows]


def _members(tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """For each member its part of every tensor: one call a tensor, in place of one for each use."""
    return list(zip(*(each.unbind() for each in tensors), strict=True))


def _forward(inputs: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """Activations of each layer; the last one's are the outputs."""
    outputs: list[Tensor] = []
    for weight, bias in zip(weights, biases, strict=True):
        hidden = outputs[-1].clamp_min_(0) if outputs else inputs
        # Not baddbmm, which first fills the result with the bias: one more pass over it.
        outputs.append(_product(hidden, weight).add_(bias))
    return outputs


def _forward_out_of_place(
    inputs: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> list[Tensor]:
    """As :func:`_forward`, with nothing done in place.

    torch 2.11 compiles in-place work in an autograd function to wrong gradients, in silence
    (https://github.com/pytorch/pytorch/issues/180642). The compiler makes the same kernels of both.
    """
    hidden, outputs = inputs, []
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        hidden = _product(hidden, weight) + bias
        if layer < len(weights):
            hidden = hidden.clamp_min(0)
        outputs.append(hidden)
    return outputs


def _product(inputs: Tensor, weight: Tensor) -> Tensor:
    """``inputs @ weight`` of each member, in the weight's type, returned in that of the inputs."""
    return torch.bmm(inputs.to(weight.dtype), weight).to(inputs.dtype)


def _forward_in_blocks(inputs: Tensor, weights: list[Tensor], biases: list[Tensor]) -> list[Tensor]:
    """As :func:`_forward`."""
    outputs = [inputs.new_empty(*inputs.shape[:2], each.shape[2]) for each in weights]
    last, blocks = len(weights) - 1, _blocks(inputs.shape[1])
    parts = map(_members, (outputs, weights, biases))
    for member, *layers in zip(inputs.unbind(), *parts, strict=True):
        for rows in blocks:
            hidden = _block(member, rows)
            for layer, (output, weight, bias) in enumerate(zip(*layers, strict=True)):
                product = _block(output, rows)
                _product_into(product, hidden, weight).add_(bias)
                hidden = product.clamp_min_(0) if layer < last else product
    return outputs


def _backward(
    gradient: Tensor,
    hidden: Sequence[Tensor],
    weights: Sequence[Tensor],
    of_inputs: bool,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of the inputs, and of each layer's weight and bias; None where not wanted."""
    gradients: list[Tensor | None] = []
    for layer in reversed(range(len(weights))):
        of_layer: list[Tensor | None] = [None, None]
        weight = weights[layer]
        factor = gradient.to(weight.dtype)
        if wanted[layer]:
            of_weight = torch.bmm(hidden[layer].to(weight.dtype).mT, factor)
            of_layer = [of_weight, gradient.sum(-2, keepdim=True)]
        gradients = of_layer + gradients
        if layer or of_inputs:
            gradient = torch.bmm(factor, weight.mT).to(gradient.dtype)
        if layer:
            _switch_off(gradient, hidden[layer])
    return [gradient if of_inputs else None, *gradients]


# To the compiler both are single operations: in its own order all rows would go through a layer
# before the next one, out of the cache and back.
_forward_op = torch.library.custom_op(
    "synther::relu_mlp_in_blocks", _forward_in_blocks, mutates_args=()
)


@_forward_op.register_fake
def _(inputs: Tensor, weights: list[Tensor], biases: list[Tensor]) -> list[Tensor]:
    return [inputs.new_empty(*inputs.shape[:2], each.shape[2]) for each in weights]


def _backward_in_blocks(
    gradient: Tensor,
    hidden: list[Tensor],
    weights: list[Tensor],
    of_inputs: bool,
    wanted: list[bool],
) -> list[Tensor]:
    """As :func:`_backward`, of which this returns what is wanted, in its order."""
    inputs, blocks = hidden[0], _blocks(hidden[0].shape[1])
    for_inputs = inputs.new_empty(inputs.shape) if of_inputs else None
    sums: dict[int, list[Tensor]] = {
        layer: [inputs.new_empty(weight.shape), inputs.new_empty(len(weight), 1, weight.shape[2])]
        for layer, weight in enumerate(weights)
        if wanted[layer]
    }
    parts = zip(gradient.unbind(), _members(hidden), _members(weights), strict=True)
    for number, (of_member, activations, matrices) in enumerate(parts):
        own = {layer: [each[number] for each in both] for layer, both in sums.items()}
        for rows in blocks:
            of_output, is_first = _block(of_member, rows), rows is blocks[0]
            for layer in reversed(range(len(weights))):
                before, weight = _block(activations[layer], rows), matrices[layer]
                factor = of_output.to(weight.dtype)
                if layer in own:
                    of_weight, of_bias = own[layer]
                    _sum_product(of_weight, before.to(weight.dtype).T, factor, is_first)
                    _sum_rows(of_bias, of_output, is_first)
                if layer:
                    of_output = torch.mm(factor, weight.T).to(of_output.dtype)
                    _switch_off(of_output, before)
                elif for_inputs is not None:
                    _product_into(_block(for_inputs[number], rows), factor, weight.T)
    gradients = [] if for_inputs is None else [for_inputs]
    for layer, (of_weight, of_bias) in sums.items():
        gradients += [of_weight.to(weights[layer].dtype), of_bias]
    return gradients


_backward_op = torch.library.custom_op(
    "synther::relu_mlp_in_blocks_backward", _backward_in_blocks, mutates_args=()
)


@_backward_op.register_fake
def _(
    gradient: Tensor,
    hidden: list[Tensor],
    weights: list[Tensor],
    of_inputs: bool,
    wanted: list[bool],
) -> list[Tensor]:
    inputs = hidden[0]
    found = [inputs.new_empty(inputs.shape)] if of_inputs else []
    for weight, each in zip(weights, wanted, strict=True):
        if each:
            found += [torch.empty_like(weight), inputs.new_empty(len(weight), 1, weight.shape[2])]
    return found


def _product_into(out: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """``out[:] = inputs @ weight``, the product taken in the weight's type."""
    if weight.dtype == out.dtype:
        return torch.mm(inputs, weight, out=out)
    return out.copy_(torch.mm(inputs.to(weight.dtype), weight))


def _sum_product(total: Tensor, left: Tensor, right: Tensor, is_first: bool) -> None:
    """``total += left @ right``, or ``=`` for the first, the product taken in the factors' type."""
    if is_first:
        _product_into(total, left, right)
    elif right.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(torch.mm(left, right))


def _sum_rows(total: Tensor, rows: Tensor, is_first: bool) -> None:
    """``total += `` the sum of ``rows``, or ``=`` for the first."""
    if is_first:
        torch.sum(rows, 0, keepdim=True, out=total)
    else:
        total.add_(rows.sum(0, keepdim=True))


def _switch_off(gradient: Tensor, activations: Tensor) -> None:
    """Set the gradient to 0, in place, where the ReLU was off."""
    torch.ops.aten.threshold_backward.grad_input(gradient, activations, 0, grad_input=gradient)

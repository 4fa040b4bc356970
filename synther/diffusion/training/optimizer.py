"""The optimiser of the diffusion model: AdamW with clipped gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from synther.files.checkpoint import CheckpointError


def adamw(
    model: nn.Module,
    rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    capturable: bool = False,
) -> torch.optim.AdamW:
    """AdamW in one pass over all parameters; biases and norms do not decay. ``capturable``, a CUDA
    graph can hold its steps.

    The grouping and its order, frozen parameters included, are part of the checkpoint format.
    """
    norms = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        exempt = name.endswith("bias") or id(parameter) in norms
        (others if exempt else decaying).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True, capturable=capturable)


def clipped_step(optimizer: torch.optim.AdamW, max_norm: float, rate: float | Tensor) -> Tensor:
    """Take one step of :func:`adamw`'s optimiser with its gradients scaled down to ``max_norm``;
    return their norm before that, a scalar on the device. The host does not wait for the device."""
    gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients, foreach=True)
    # The fused kernel divides by this on the fly: a pass over all gradients less than
    # clip_grad_norm_, which is noticed where the network is large and the batch is small.
    optimizer.grad_scale = (norm / max_norm).clamp(min=1.0)  # type: ignore[attr-defined]
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return norm


def load_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Load moments and keep the settings as they are: a file may come from other hardware.

    Raises:
        CheckpointError: the moments are of another network.
    """
    groups = optimizer.state_dict()["param_groups"]
    sizes = [len(group["params"]) for group in groups]
    found = [len(group["params"]) for group in saved["param_groups"]]
    if sizes != found:
        raise CheckpointError(f"optimiser of {found} parameters, expected {sizes}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, state in saved["state"].items():
        shape, expected = tuple(state["exp_avg"].shape), tuple(parameters[index].shape)
        if shape != expected:
            raise CheckpointError(f"optimiser state {index} is {shape}, not {expected}")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})

"""The optimiser of the diffusion model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from synther.files.checkpoint import CheckpointError


def adamw(
    model: nn.Module, rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """One pass over all parameters; biases and norms do not decay.

    The grouping and its order, frozen parameters included, are part of the checkpoint format.
    """
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
        for parameter in module.parameters()
    }
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        exempt = name.endswith("bias") or id(parameter) in norms
        (others if exempt else decaying).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def clipped_step(optimizer: torch.optim.AdamW, max_norm: float, rate: float) -> Tensor:
    """One step of :func:`adamw`'s optimiser with its gradients scaled down to ``max_norm``; their
    norm before that, a scalar on the device. Nothing here waits for the device."""
    gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients, foreach=True)
    # The fused kernel divides by this on the fly: a pass over all gradients less than
    # clip_grad_norm_, which is noticed where the network is large and the batch is small.
    optimizer.grad_scale = (norm / max_norm).clamp(min=1.0)  # type: ignore[attr-defined]
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return norm


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any], source: str) -> None:
    """Moments from a checkpoint, settings as they are: a file may come from other hardware.

    Raises:
        CheckpointError: they are of another network.
    """
    groups = optimizer.state_dict()["param_groups"]
    sizes = [len(group["params"]) for group in groups]
    found = [len(group["params"]) for group in saved["param_groups"]]
    if sizes != found:
        raise CheckpointError(f"{source}: optimiser of {found} parameters, expected {sizes}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, state in saved["state"].items():
        shape, expected = tuple(state["exp_avg"].shape), tuple(parameters[index].shape)
        if shape != expected:
            raise CheckpointError(f"{source}: optimiser state {index} is {shape}, not {expected}")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})

"""The policy of a state agent that ``online_exp.py`` trained, out of its checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning.nets import StackedMLP

StatePolicy = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A flat state ``[O]`` -> an action ``[A]``."""


def load_state_policy(path: Path) -> StatePolicy:
    """The deterministic policy, the squashed mean of SAC's Gaussian.

    Args:
        path: the folder of an online run, or one of its checkpoints, which say themselves how wide
            the network's layers are.

    Raises:
        CheckpointError: no checkpoint, or not one of an online run.
    """
    file = checkpoint.latest(path, "checkpoint") if path.is_dir() else path
    if file is None:
        raise CheckpointError(f"{path}: has no checkpoint-<step>.pt of an online run")
    try:
        weights = checkpoint.load(file)["agent"]["networks"]
        layers = [weights[key] for key in weights if key.startswith("actor.layers")]
        widths = [layers[0].shape[-2], *(each.shape[-1] for each in layers[::2])]
        actor = StackedMLP([1], widths, [torch.Generator()])
        actor.load_state_dict(
            {key[6:]: value for key, value in weights.items() if key.startswith("actor.")}
        )
    except (KeyError, IndexError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{file}: holds no policy of an online run ({error})") from error

    @torch.no_grad()
    def policy(state: NDArray[np.float32]) -> NDArray[np.float32]:
        mean, _ = actor(torch.from_numpy(state)[None, None]).chunk(2, dim=-1)
        return mean[0, 0].tanh().numpy()

    return policy

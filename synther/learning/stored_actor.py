"""The policy of an online run is read back from its checkpoint, without the run's settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning.nets import StackedMLP
from synther.runs.folder import checkpoint_in


def load_actor(path: Path) -> StackedMLP:
    """The network of a Gaussian policy: states ``[1, N, O]`` -> mean and log-std ``[1, N, 2 A]``.

    Args:
        path: the folder of an online run, or one of its checkpoints, which say themselves how wide
            the network's layers are.

    Raises:
        CheckpointError: no checkpoint, or not one of an online run.
    """
    file = checkpoint_in(path)
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
    return actor


@torch.no_grad()
def gaussian_at(actor: StackedMLP, observation: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Mean and log-std ``[A]`` of the policy of :func:`load_actor` at one observation ``[O]``."""
    mean, log_std = actor(torch.from_numpy(observation)[None, None])[0, 0].chunk(2)
    return mean, log_std

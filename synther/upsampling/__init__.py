"""The short way to new transitions: a model is trained on those of any kind, and sampled."""

from typing import Any

from synther.transitions import Transitions
from synther.upsampling.config import UpsampleConfig
from synther.upsampling.upsampler import Config, Upsampler
from synther.upsampling.verdict import FidelityWarning, Verdict

__all__ = ["FidelityWarning", "UpsampleConfig", "Upsampler", "Verdict", "upsample"]


def upsample(
    data: Any, num_samples: int, *, config: Config = None, device: str = "auto", seed: int = 0
) -> Transitions:
    """Train a diffusion model on transitions and draw new ones from it.

    On two CPU cores this takes minutes, see :func:`synther.upsampling.config.default_config`. How
    good the samples are is said in one line on stderr, and in their ``metadata``.

    Args:
        data: anything that :func:`synther.datasets.as_transitions` takes: ``Transitions``, a dict
            of the five arrays, a path to ``.npz`` or ``.hdf5``, a data set's name, a Minari data
            set, a Stable-Baselines3 replay buffer, a d3rlpy data set; 200 rows or more of vectors.
        num_samples: how many.
        config: None; settings by name, such as ``{"steps": 20_000}``; or an ``UpsampleConfig``.
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.
        seed: of all that is random; on a CPU the same seed gives the same samples.

    Returns:
        ``num_samples`` transitions. Actions lie in [-1, 1], or, where the data leave it, in the
        range of the data.

    Raises:
        TransitionError: data that cannot be used; the message says what is wrong and where.
        TypeError, ValueError: another argument that cannot be.

    Warns:
        FidelityWarning: the samples are not to be trusted.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}, expected 1 or more")
    return Upsampler(config, device=device, seed=seed).fit(data).sample(num_samples)

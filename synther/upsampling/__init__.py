"""The short way to new transitions: a model is trained on those of any kind, and sampled."""

from typing import Any

from numpy.typing import ArrayLike

from synther.datasets import as_transitions
from synther.diffusion.conditioning.around import NOISE
from synther.diffusion.conditioning.condition import ConditionError, Target
from synther.ranges import Count, Finite, Seed, Share, checked
from synther.transitions import Transitions
from synther.upsampling.config import UpsampleConfig, with_condition
from synther.upsampling.upsampler import Config, Upsampler
from synther.upsampling.verdict import FidelityWarning, Verdict

__all__ = [
    "ConditionError",
    "FidelityWarning",
    "UpsampleConfig",
    "Upsampler",
    "Verdict",
    "upsample",
]


@checked
def upsample(
    data: Any,
    num_samples: Count,
    *,
    config: Config = None,
    device: str = "auto",
    seed: Seed = 0,
    condition: str | None = None,
    target: Target | None = None,
    guidance: Finite | None = None,
    values: Any = None,
    around: Any = None,
    noise: Share = NOISE,
    action_low: ArrayLike | None = None,
    action_high: ArrayLike | None = None,
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
        condition: what samples are asked for by: ``return``, ``reward``, a column such as
            ``observations[3]``, or another name with ``values``; over that of ``config``.
        target, guidance: what they are asked for, and how strongly: see :meth:`Upsampler.sample`.
        around: real rows that samples begin at, such as the data; without a ``target`` each is then
            asked for 1.3 times its row's own value of the condition, 0.7 times a negative one.
        noise: how far from those rows, as a share of the schedule: see :meth:`Upsampler.around`.
        values: of the condition, a number or a label for each row; see :meth:`Upsampler.fit`.
        action_low, action_high: the environment's lowest and highest action in the units of the
            data, a number or one a column. None: those that the data's metadata state, or the
            action space of the environment that they name.

    Returns:
        ``num_samples`` transitions. Actions are in the units of the data and between their bounds;
        where nobody knows these, in [-1, 1], or, where the data leave it, in the range of the data.

    Raises:
        TransitionError: data that cannot be used; the message says what is wrong and where.
        ConditionError: a condition that is not known or has no target, or a target out of the range
            of the data.
        TypeError, ValueError: another argument that cannot be.

    Warns:
        FidelityWarning: the samples are not to be trusted.
        ActionUnitsWarning: what was assumed of the units of the actions.
    """
    asked = "the row's own, amplified" if target is None and around is not None else target
    if around is None or condition is not None or target is not None:
        config = with_condition(config, condition, asked, guidance)
    upsampler = Upsampler(
        config, device=device, seed=seed, action_low=action_low, action_high=action_high
    )
    data = as_transitions(data)
    if target is not None:  # before the minutes of training
        upsampler.values_of(data, values).condition().asked(target, num_samples)
    upsampler.fit(data, values)
    wanted: Any = target
    if around is not None:
        wanted = upsampler.around(around, num_samples, noise, target, values)
    return upsampler.sample(num_samples, target=wanted, guidance=guidance)

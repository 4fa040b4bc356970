"""The short way to new transitions: a model is trained on those of any kind, and sampled."""

from typing import Any

from numpy.typing import ArrayLike

from synther.datasets import as_transitions, with_action_bounds
from synther.datasets.digest import content_digest
from synther.diffusion.conditioning.around import NOISE
from synther.diffusion.conditioning.condition import ConditionError, Target
from synther.ranges import Count, Finite, PositiveShare, Seed, checked
from synther.transitions import TransitionLayout, Transitions
from synther.upsampling.config import UpsampleConfig, with_condition
from synther.upsampling.model import rows_to_begin_at
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
    noise: PositiveShare | None = None,
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
        around: real rows that samples begin at, such as the data, of the same columns and
            environment, in units of their own where their metadata state these; without a
            ``target`` each is then asked for 1.3 times its row's own value of the condition, 0.7
            times a negative one. Where ``values`` are given, these rows have to be the data's own.
        noise: how far from those rows, as a share of the schedule; None: 0.5. See
            :meth:`Upsampler.around`.
        values: of the condition, a number or a label for each row; see :meth:`Upsampler.fit`.
        action_low, action_high: the environment's lowest and highest action in the units of the
            data, a number or one a column. None: those that the data's metadata state, or the
            action space of the environment that they name.

    Returns:
        ``num_samples`` transitions. Actions are in the units of the data and between their bounds;
        where nobody knows these, in [-1, 1], or, where the data leave it, in the range of the data.

    Raises:
        TransitionError: data, or rows to begin at, that cannot be used; the message says what is
            wrong and where.
        ConditionError: a condition that is not known or has no target, a target out of the range
            of the rows that the model is trained with, guidance to nothing, or noise without rows.
        TypeError, ValueError: another argument that cannot be. All of these come before the minutes
            of training.

    Warns:
        FidelityWarning: the samples are not to be trusted.
        ActionUnitsWarning: what was assumed of the units of the actions.
    """
    if noise is not None and around is None:
        raise ConditionError(
            f"noise is {noise}, and there are no rows to begin at: give some, such as around=data"
        )
    config = with_condition(config, condition, target, guidance, around=around is not None)
    upsampler = Upsampler(
        config, device=device, seed=seed, action_low=action_low, action_high=action_high
    )
    given, data = data, as_transitions(data)
    if around is not None:
        data = with_action_bounds(data, low=action_low, high=action_high)
        real = data if around is given else as_transitions(around)
        around = rows_to_begin_at(real, TransitionLayout.of(data), data.metadata)
    if target is not None or around is not None:
        _require_wanted(upsampler, data, num_samples, target, guidance, values, around)
    upsampler.fit(data, values)
    wanted: Any = target
    if around is not None:
        share = NOISE if noise is None else noise
        wanted = upsampler.around(around, num_samples, share, target, values)
    return upsampler.sample(num_samples, target=wanted, guidance=guidance)


def _require_wanted(
    upsampler: Upsampler,
    data: Transitions,
    num_samples: int,
    target: Target | None,
    guidance: float | None,
    values: Any,
    around: Transitions | None,
) -> None:
    """Refuse, before the minutes of training, what could not be sampled after them."""
    condition = upsampler.condition_of(data, values)
    if target is not None and condition is not None:
        condition.asked(target, num_samples)
    if around is None or target is not None:
        return
    if condition is not None and condition.labels:
        raise ConditionError(
            f"condition '{condition.name}' has labels, which nothing amplifies: give a target, one "
            f"of {', '.join(condition.labels)}, or leave the condition out"
        )
    if condition is None:
        if guidance not in (None, 0, 1):
            raise ConditionError(
                f"guidance is {guidance}, and there is no target to guide to: samples around rows "
                "have one where target or a condition of numbers is given"
            )
    elif values is not None and content_digest(around) != content_digest(data):
        raise ConditionError(
            f"around are {len(around)} rows, and values are those of the {len(data)} rows of the "
            "data, which are others: begin at the data, give a target, or use Upsampler.around, "
            "which takes values of its own"
        )
    else:
        upsampler.values_of(around, values)

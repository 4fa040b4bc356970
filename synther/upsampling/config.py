"""The settings of the short way are chosen by the number of rows and the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import torch

from synther.diffusion.conditioning.condition import ConditionError, Target
from synther.diffusion.conditioning.values import DISCOUNT
from synther.diffusion.generation.consistency import Consistency
from synther.diffusion.generation.presets import SAMPLER_NAMES
from synther.diffusion.training.step import COND_DROPOUT
from synther.diffusion.training.trainer import SMALL_DATA_SET_ROWS
from synther.ranges import Count, Depth, Dropout, NotNegative, Range, Share, Width
from synther.runs.settings import ConfigError, check
from synther.suggestions import did_you_mean

MIN_ROWS = 200
"""Below it neither a model nor a verdict on it means anything."""
WIDE_ROWS = 100_000
"""From this many rows on a wider network pays for its time."""


@dataclass(frozen=True)
class UpsampleConfig:
    """How a model is trained and sampled.

    Args:
        width: of the denoiser's layers.
        num_layers: its residual blocks.
        dim_t: width of its noise embedding.
        steps: training steps.
        batch_size: rows a step.
        learning_rate: at the start, with cosine annealing to 0 over the steps.
        sampler: a preset (``fast``, ``paper``) or a sampler's name.
        num_sample_steps: of a sampler that is no preset; a preset has its own.
        sample_batch_size: rows in one call of the model, which bounds the memory.
        consistency: ``ensemble`` makes next observation, reward and terminal of a sample agree with
            its observation and action, by regressions that are fitted beside the model; ``off``
            leaves samples as the model gives them.
        held_out: share of the rows that the model does not see and is judged by (at least 50 rows,
            at most 10 000).
        condition: what samples can be asked for by: ``return``, ``reward``, a column such as
            ``observations[3]``, or any name, where values are given with the data; empty: nothing.
        cond_dropout: share of the rows that a model with a condition is trained without it, so that
            it gives rows as they come as well, and guidance has something to go away from.
        discount: of ``return``.
    """

    width: Width = 256
    num_layers: Depth = 4
    dim_t: Width = 128
    steps: Count = 8_000
    batch_size: Count = 256
    learning_rate: NotNegative = 1e-3
    sampler: str = "fast"
    num_sample_steps: Count = 128
    sample_batch_size: Count = 10_000
    consistency: Consistency = "ensemble"
    held_out: Annotated[float, Range(0, 0.5, "low")] = 0.1
    condition: str = ""
    cond_dropout: Dropout = COND_DROPOUT
    discount: Share = DISCOUNT

    def __post_init__(self) -> None:
        check(self, prefix="config: ")
        if self.sampler not in SAMPLER_NAMES:
            raise ConfigError(
                f"config: sampler is '{self.sampler}', expected one of {', '.join(SAMPLER_NAMES)}"
            )


def default_config(rows: int, device: torch.device) -> UpsampleConfig:
    """Settings for a data set of that size.

    On CUDA those of the paper's offline experiments (width 2048, half of it below 100 000 rows).
    On a CPU those of ``config/resmlp_demo_denoiser.gin``: minutes on two cores; from 100 000 rows
    on with twice the width and steps.
    """
    if device.type == "cuda":
        return UpsampleConfig(
            width=2048 if rows >= WIDE_ROWS else 1024,
            num_layers=6,
            steps=100_000,
            batch_size=1024 if rows >= SMALL_DATA_SET_ROWS else 256,
            learning_rate=3e-4,
            sample_batch_size=100_000,
        )
    if rows >= WIDE_ROWS:
        return UpsampleConfig(width=512, steps=16_000, learning_rate=5e-4)
    return UpsampleConfig()


def resolve_config(
    config: UpsampleConfig | Mapping[str, Any] | None, rows: int, device: torch.device
) -> UpsampleConfig:
    """The settings of a run: those given, and the defaults of its size for the others.

    Args:
        config: None; overrides by name; or all settings.
        rows, device: see :func:`default_config`.

    Raises:
        ConfigError: a name that is none of the settings, or a value that cannot be.
        TypeError: another type.
    """
    if isinstance(config, UpsampleConfig):
        return config
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(
            f"config is {config!r}, expected None, a dict such as {{'steps': 20_000}}, or an "
            "UpsampleConfig; for gin files there is synther/diffusion/train_diffuser.py"
        )
    overrides = dict(config or {})
    names = [field.name for field in fields(UpsampleConfig)]
    for name in overrides:
        if name not in names:
            raise ConfigError(f"config: no setting '{name}'{did_you_mean(name, names)}")
    return replace(default_config(rows, device), **overrides)


def with_condition(
    config: UpsampleConfig | Mapping[str, Any] | None,
    condition: str | None,
    target: Target | None,
    guidance: float | None,
    *,
    around: bool = False,
) -> UpsampleConfig | Mapping[str, Any] | None:
    """The settings with ``condition`` in them, where one is given.

    Args:
        around: whether samples begin at real rows, whose own values, amplified, are a target too.

    Raises:
        ConditionError: one of condition, target and guidance without the other: before the minutes
            of training.
    """
    if target is None and not around and guidance not in (None, 0, 1):
        raise ConditionError(f"guidance is {guidance}, and there is no target to guide to")
    if config is not None and not isinstance(config, (UpsampleConfig, Mapping)):
        return config  # which is refused with what it may be
    if isinstance(config, UpsampleConfig):
        config = replace(config, condition=condition or config.condition)
        chosen = config.condition
    else:
        chosen = str(condition or dict(config or {}).get("condition", ""))
        config = {**config, "condition": chosen} if config else {"condition": chosen}
    if chosen and target is None and not around:
        raise ConditionError(
            f"condition '{chosen}' has no target: say what to ask for, such as target='top 10%'"
        )
    if target is not None and not chosen:
        raise ConditionError(
            f"target {target!r} has no condition: say what it is of, such as condition='return'"
        )
    return config

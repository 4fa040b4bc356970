"""An ``Upsampler`` is a diffusion model of transitions, from fit to samples, in one object."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from synther.datasets import as_transitions, with_action_bounds
from synther.diffusion.conditioning.around import NOISE, Around
from synther.diffusion.conditioning.condition import Condition, ConditionError, Target
from synther.diffusion.conditioning.policy import STRENGTH, Policy
from synther.diffusion.conditioning.values import Values, values_of
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.ranges import Count, Finite, NotNegative, PositiveShare, Seed, checked
from synther.runs import runtime
from synther.transitions import TransitionError, TransitionLayout, Transitions
from synther.upsampling.config import MIN_ROWS, UpsampleConfig, resolve_config
from synther.upsampling.learning import Round, enough, learn, parts_of, seed_of
from synther.upsampling.model import FittedModel, rows_to_begin_at
from synther.upsampling.verdict import FidelityWarning, Verdict

REFIT_SHARE = 0.25
"""A refit takes this share of the steps of a fit, where nothing else is said."""

Config = UpsampleConfig | Mapping[str, Any] | None


class Upsampler:
    """A diffusion model of transitions: fit, sample, refit as data come in, save and load.

    It leaves torch's, numpy's and Python's global random numbers alone, and gin's configuration has
    no part in it. It can be pickled.

    Args:
        config, device, seed, action_low, action_high: as :func:`synther.upsample` has them.

    Attributes:
        verdict: on the samples of the model as it is; None before the first fit.
    """

    @checked
    def __init__(
        self,
        config: Config = None,
        *,
        device: str = "auto",
        seed: Seed = 0,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
    ) -> None:
        runtime.resolve_device(device)  # a device that is not there shows now, not after the data
        resolve_config(config, MIN_ROWS, torch.device("cpu"))  # and so does a setting that is none
        self.device, self.seed = device, seed
        self._bounds = {"low": _plain(action_low), "high": _plain(action_high)}
        self.verdict: Verdict | None = None
        self._chosen = config
        self._fitted: FittedModel | None = None
        self._rounds = self._draws = 0

    @property
    def config(self) -> UpsampleConfig | None:
        """The settings of the model as it is; None before the first fit."""
        return self._fitted.config if self._fitted else None

    def fit(self, data: Any, values: Any = None) -> Upsampler:
        """Train a new model on ``data``, judge it, and return ``self``.

        Args:
            data: as :func:`synther.upsample` has them; for ``return`` in the order of their
                episodes.
            values: of the condition, a number or a label for each row ``[N]``, where its name does
                not say them.

        Raises:
            TransitionError, ConditionError: as :func:`synther.upsample`.

        Warns:
            ActionUnitsWarning: what was assumed of the units of the actions.
        """
        transitions = self._checked(data)
        layout = TransitionLayout.of(transitions, terminals=bool(transitions.terminals.any()))
        config = self._config_for(transitions)
        return self._learn(transitions, layout, config, None, values)

    @checked
    def refit(self, data: Any, steps: Count | None = None, values: Any = None) -> Upsampler:
        """Train on from the present model, on all of ``data`` as it is now.

        The normaliser is fitted to ``data``; weights go on from where they are. Which rows are held
        out is drawn again, so that the present model may have seen some of them.

        Args:
            data: of the same columns as before.
            steps: of training; None takes a quarter of those of a fit.
            values: as :meth:`fit` has them; of labels, those that the model has.

        Raises:
            RuntimeError: nothing was fitted yet.
            TransitionError, ConditionError: other columns, another condition, and as
                :func:`synther.upsample`.
        """
        before = self._require_fitted()
        transitions = self._checked(data)
        if not self.can_refit(transitions):
            raise TransitionError(
                f"{transitions.source}: the rows are {TransitionLayout.of(transitions)}, the "
                f"model's {before.layout}; use fit for a new model"
            )
        layout = before.layout
        config = self._config_for(transitions)
        if steps is None:
            steps = max(1, round(config.steps * REFIT_SHARE))
        network = {name: getattr(before.config, name) for name in ("width", "num_layers", "dim_t")}
        config = replace(config, steps=steps, **network)
        return self._learn(transitions, layout, config, before.model, values)

    def can_refit(self, transitions: Transitions) -> bool:
        """Whether the present model has the columns of these rows; a model of rows without a true
        terminal has none for it.

        Raises:
            RuntimeError: nothing was fitted yet.
        """
        own = self._require_fitted().layout
        layout = TransitionLayout.of(transitions, terminals=own.terminals)
        return layout == own and (own.terminals or not transitions.terminals.any())

    @checked
    def sample(
        self,
        num_samples: Count,
        seed: Seed | None = None,
        target: Target | Around | None = None,
        guidance: Finite | None = None,
        policy: Policy | None = None,
        policy_strength: NotNegative | None = None,
    ) -> Transitions:
        """New transitions.

        Args:
            num_samples: how many.
            seed: the same one gives the same rows; None gives other rows at every call.
            target: what they are asked for, of the model's condition: a number, a label or a
                quantile such as ``top 10%``, or a number or label for each sample; or rows to begin
                at, see :meth:`around`; None: rows as they come.
            guidance: how strongly; 1, the default, gives the condition's own distribution, and more
                than that goes beyond it, for twice the time.
            policy: their actions are moved to where it acts: a function of observations ``[N, O]``,
                a tensor, that gives actions ``[N, A]`` or a torch distribution of them, all in the
                data's units (PGD); None: actions as they come. The verdict is on those.
            policy_strength: how far, 0 or more; None: 1. See ``conditioning/policy.py``.

        Raises:
            RuntimeError: nothing was fitted yet.
            ConditionError: a target that cannot be, or of a model without a condition, what is no
                policy of such actions, or a strength without a policy.
            ValueError: less than one row.
        """
        fitted = self._require_fitted()
        if policy is None and policy_strength is not None:
            raise ConditionError(
                f"policy_strength is {policy_strength}, and there is no policy to follow"
            )
        strength = STRENGTH if policy_strength is None else policy_strength
        own_seed = seed_of(self.seed, "sample", self._draws) if seed is None else seed
        asked = (num_samples, own_seed, target, guidance)
        followed: dict[str, Any] = {} if policy is None else {"policy_strength": strength}
        metadata = fitted.described(*asked, verdict=str(self.verdict), **followed)
        drawn = fitted.draw(*asked, policy, strength)
        self._draws += seed is None
        return replace(drawn, metadata=metadata)

    def values_of(self, transitions: Transitions, given: Any = None) -> Values:
        """The values of the condition in each of ``transitions``; see :meth:`fit`.

        Raises:
            ConditionError: there is no condition, or values that cannot be its.
        """
        config = self._config_for(transitions)
        if not config.condition:
            raise ConditionError(
                "values are given, and config names no condition that they are of, such as "
                "{'condition': 'relevance'}"
            )
        return values_of(config.condition, transitions, given=given, discount=config.discount)

    def condition_of(self, transitions: Transitions, given: Any = None) -> Condition | None:
        """The condition that :meth:`fit` would learn from these rows: that of the rows among them
        which are not held out. It says before the minutes of training what may be asked for; None
        where neither config nor ``given`` say of one.

        Raises:
            ConditionError: as :meth:`values_of`, or there would be nothing to ask for.
        """
        config = self._config_for(transitions)
        if not config.condition and given is None:
            return None
        values = self.values_of(transitions, given)
        values.condition()  # which numbers rows as the caller does
        parts = parts_of(enough(transitions), config, Round(self.seed, self._rounds))
        return values.subset(parts.kept).condition()

    @checked
    def around(
        self,
        real: Any,
        num_samples: Count,
        noise: PositiveShare = NOISE,
        target: Target | None = None,
        values: Any = None,
    ) -> Around:
        """A target of samples near real rows (GTA), for :meth:`sample`.

        Args:
            real: rows of the model's columns, in the order of their episodes; sample i begins at
                one of them, drawn at random, each as often as any other. Where they and the data of
                the model say which units their actions have, these are taken in the model's.
            num_samples: how many samples.
            noise: the share of the sampler's steps; see ``conditioning/around.py``.
            target: what they are asked for; None, of a model with a condition: 1.3 times the row's
                own value, 0.7 times where it is negative, at most what the model has seen.
            values: of the condition in ``real``, where its name does not say them.

        Raises:
            RuntimeError: nothing was fitted yet.
            TransitionError: no rows, other columns than the model's, or another environment.
            ConditionError: values that cannot be those of ``real``.
        """
        fitted = self._require_fitted()
        transitions = rows_to_begin_at(as_transitions(real), fitted.layout, fitted.metadata)
        own = None
        if target is None and fitted.amplifies:
            own = self.values_of(transitions, values).values
        seed = seed_of(self.seed, "around", num_samples)
        return fitted.around(transitions, num_samples, noise, target, own, seed)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model, with all that it says of itself; whole or not at all.

        The offline commands take the file for ``--diffusion.path``, and
        :func:`synther.diffusion.model_io.load_model` reads it.
        """
        self._require_fitted()
        return checkpoint.save(path, self.__getstate__())

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "auto") -> Upsampler:
        """Read what :meth:`save` wrote; no data are needed.

        Raises:
            CheckpointError: no such file, damaged, or not written by :meth:`save`.
        """
        payload = checkpoint.load(path)
        if "upsampler" not in payload:
            raise CheckpointError(
                f"{path}: was not written by Upsampler.save (keys {sorted(payload)}); "
                "synther.diffusion.model_io.load_model may read it"
            )
        runtime.resolve_device(device)  # what is asked for has to be here
        payload["upsampler"]["device"] = device
        upsampler = cls.__new__(cls)
        upsampler.__setstate__(payload)
        return upsampler

    def __getstate__(self) -> dict[str, Any]:
        """Tensors on the CPU, and plain values."""
        chosen = self._chosen
        own = {
            **{"device": self.device, "seed": self.seed, "action_bounds": self._bounds},
            **{"rounds": self._rounds, "draws": self._draws},
            "chosen": asdict(chosen) if isinstance(chosen, UpsampleConfig) else chosen,
            "verdict": self.verdict.to_plain() if self.verdict else None,
        }
        return {"upsampler": own, **(self._fitted.payload() if self._fitted else {})}

    def __setstate__(self, payload: dict[str, Any]) -> None:
        own = payload["upsampler"]
        self.device, self.seed = own["device"], own["seed"]
        self._bounds = own.get("action_bounds", {})  # an earlier version has none
        self._rounds, self._draws = own["rounds"], own["draws"]
        self._chosen = own["chosen"]
        verdict = own["verdict"]
        self.verdict = Verdict.from_plain(verdict) if verdict else None
        self._fitted = None
        if "fitted" in payload:
            self._fitted = FittedModel.from_payload(payload, self._device_here())

    def _device_here(self) -> torch.device:
        """The device that it was made for; where that is not here, one that is, from now on."""
        try:
            return runtime.resolve_device(self.device)
        except ValueError:
            self.device = "auto"
            return runtime.resolve_device(self.device)

    def _learn(
        self,
        transitions: Transitions,
        layout: TransitionLayout,
        config: UpsampleConfig,
        start: ElucidatedDiffusion | None,
        given: Any,
    ) -> Upsampler:
        values = None
        if config.condition or given is not None:
            values = self.values_of(transitions, given)
            if start and start.condition is None:
                raise ConditionError(
                    f"condition '{config.condition}' is not that of the present model, which has "
                    "none and which a refit goes on from; use fit for a new model"
                )
            values.condition(start.condition if start else None)
        device = runtime.resolve_device(self.device)
        this_round = Round(self.seed, self._rounds)
        self._fitted, self.verdict = learn(
            transitions, layout, config, device, this_round, start, values
        )
        self._rounds += 1
        tqdm.write(f"SynthER, {len(transitions)} rows: {self.verdict}", file=sys.stderr)
        if not self.verdict.trusted:
            warnings.warn(str(self.verdict), FidelityWarning, stacklevel=3)
        return self

    def _checked(self, data: Any) -> Transitions:
        return with_action_bounds(enough(as_transitions(data)), **self._bounds)

    def _config_for(self, transitions: Transitions) -> UpsampleConfig:
        return resolve_config(self._chosen, len(transitions), runtime.resolve_device(self.device))

    def _require_fitted(self) -> FittedModel:
        if self._fitted is None:
            raise RuntimeError("there is no model yet; call fit(data) first")
        return self._fitted


def _plain(bound: ArrayLike | None) -> Any:
    return None if bound is None else np.asarray(bound).tolist()

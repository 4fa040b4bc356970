"""A diffusion model of transitions, from fit to samples, in one object."""

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
from tqdm.auto import tqdm

from synther import checkpoint, runtime
from synther.checkpoint import CheckpointError
from synther.datasets import as_transitions
from synther.diffusion import model_io
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.held_out import HELD_OUT_ROWS
from synther.transitions import TransitionError, TransitionLayout, Transitions
from synther.upsampling.config import MIN_ROWS, UpsampleConfig, resolve_config
from synther.upsampling.model import action_bounds, generator, threads_for, train
from synther.upsampling.verdict import FidelityWarning, Verdict, judge

MIN_HELD_OUT = 50
JUDGED_ROWS = 5_000
"""Samples that a verdict is based on."""
REFIT_SHARE = 0.25
"""Of the steps of a fit, those that a refit takes where nothing else is said."""

Config = UpsampleConfig | Mapping[str, Any] | None


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


class Upsampler:
    """A diffusion model of transitions: fit, sample, refit as data come in, save and load.

    It leaves torch's, numpy's and Python's global random numbers alone, and gin's configuration has
    no part in it. It can be pickled.

    Args:
        config, device, seed: as :func:`upsample` has them.

    Attributes:
        verdict: on the samples of the model as it is; None before the first fit.
        config: of the model as it is; None before the first fit.
    """

    def __init__(self, config: Config = None, *, device: str = "auto", seed: int = 0) -> None:
        runtime.resolve_device(device)  # a device that is not there shows now, not after the data
        resolve_config(config, MIN_ROWS, torch.device("cpu"))  # and so does a setting that is none
        self.device, self.seed = device, seed
        self.verdict: Verdict | None = None
        self.config: UpsampleConfig | None = None
        self._chosen = config
        self._state: dict[str, Any] | None = None
        self._model: ElucidatedDiffusion | None = None
        self._rounds = self._draws = 0

    def fit(self, data: Any) -> Upsampler:
        """Train a new model on ``data``, judge it, and return ``self``.

        Raises:
            TransitionError: as :func:`upsample`.
        """
        return self._learn(data, None, warm=False)

    def refit(self, data: Any, steps: int | None = None) -> Upsampler:
        """Train on from the present model, on all of ``data`` as it is now.

        The normaliser is fitted to ``data``; weights go on from where they are. Which rows are held
        out is drawn again, so that the present model may have seen some of them.

        Args:
            data: of the same columns as before.
            steps: of training; None takes a quarter of those of a fit.

        Raises:
            RuntimeError: nothing was fitted yet.
            TransitionError: other columns, and as :func:`upsample`.
        """
        self._require_model()
        return self._learn(data, steps, warm=True)

    def sample(self, num_samples: int, seed: int | None = None) -> Transitions:
        """New transitions.

        Args:
            num_samples: how many.
            seed: the same one gives the same rows; None gives other rows at every call.

        Raises:
            RuntimeError: nothing was fitted yet.
            ValueError: less than one row.
        """
        state, _ = self._require_model()
        if num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}, expected 1 or more")
        if seed is None:
            seed = _seed(self.seed, "sample", self._draws)
            self._draws += 1
        provenance = {**state["provenance"], "verdict": str(self.verdict), "sample_seed": seed}
        metadata = {**state["metadata"], "source": "SynthER", "synther": provenance}
        return replace(self._draw(num_samples, seed), metadata=metadata)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model, with all that it says of itself; whole or not at all.

        The offline commands take the file for ``--diffusion.path``, and
        :func:`synther.diffusion.model_io.load_model` reads it.
        """
        self._require_model()
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
        payload["upsampler"]["device"] = device
        upsampler = cls.__new__(cls)
        upsampler.__setstate__(payload)
        return upsampler

    def __getstate__(self) -> dict[str, Any]:
        """Tensors on the CPU, and plain values."""
        state, model = self._state, self._model
        chosen = self._chosen
        own = {
            **{"device": self.device, "seed": self.seed, "state": state},
            **{"rounds": self._rounds, "draws": self._draws},
            "chosen": asdict(chosen) if isinstance(chosen, UpsampleConfig) else chosen,
            "config": asdict(self.config) if self.config else None,
            "verdict": asdict(self.verdict) if self.verdict else None,
        }
        if state is None or model is None:
            return {"upsampler": own}
        weights = {f"ema_model.{name}": value.cpu() for name, value in model.state_dict().items()}
        return {
            "upsampler": own,
            "ema": weights,
            "config": model_io.describe(model),
            "layout": model_io.layout_to_plain(TransitionLayout(**state["layout"])),
            "step": state["provenance"]["steps"],
        }

    def __setstate__(self, payload: dict[str, Any]) -> None:
        own = payload["upsampler"]
        self.device, self.seed = own["device"], own["seed"]
        self._rounds, self._draws = own["rounds"], own["draws"]
        self._chosen = own["chosen"]
        self.config = UpsampleConfig(**own["config"]) if own["config"] else None
        verdict = own["verdict"]
        self.verdict = Verdict(verdict["numbers"], tuple(verdict["reasons"])) if verdict else None
        self._state = own["state"]
        self._model = None
        if self._state:
            self._model = model_io.build(payload["config"])
            prefix = "ema_model."
            weights = {name.removeprefix(prefix): w for name, w in payload["ema"].items()}
            model_io.load_weights(self._model, weights, "Upsampler")
            self._model.to(runtime.resolve_device(self.device)).eval().requires_grad_(False)

    def _learn(self, data: Any, steps: int | None, *, warm: bool) -> Upsampler:
        transitions = as_transitions(data)
        layout = self._checked_layout(transitions, warm)
        device = runtime.resolve_device(self.device)
        config = resolve_config(self._chosen, len(transitions), device)
        if warm:
            config = self._refit_config(config, steps)
        split_seed, train_seed, judge_seed = (
            _seed(self.seed, use, self._rounds) for use in ("split", "train", "judge")
        )
        share = max(config.held_out, MIN_HELD_OUT / len(transitions))
        training, held_out = transitions.split(
            min(share, HELD_OUT_ROWS / len(transitions)), split_seed
        )
        start = self._model if warm else None
        self._model = train(training, layout, config, device, train_seed, start)
        self.config = config
        self._rounds += 1
        self._state = {
            "layout": asdict(layout),
            "bounds": [bound.tolist() for bound in action_bounds(transitions)],
            "metadata": {
                key: transitions.metadata[key]
                for key in ("env_id", "dataset")
                if transitions.metadata.get(key) is not None
            },
            "provenance": {
                **{"rows": len(transitions), "round": self._rounds, "seed": self.seed},
                **asdict(config),
            },
        }
        drawn = self._draw(JUDGED_ROWS, judge_seed)
        self.verdict = judge(training, held_out, drawn, terminals=layout.terminals)
        tqdm.write(f"SynthER, {len(transitions)} rows: {self.verdict}", file=sys.stderr)
        if not self.verdict.trusted:
            warnings.warn(str(self.verdict), FidelityWarning, stacklevel=3)
        return self

    def _checked_layout(self, transitions: Transitions, warm: bool) -> TransitionLayout:
        """Of the model's rows; it has a terminal column where some row is one, or it had one."""
        if len(transitions) < MIN_ROWS:
            raise TransitionError(
                f"{transitions.source}: {len(transitions)} rows, expected {MIN_ROWS} or more; a "
                "model of fewer repeats them"
            )
        layout = TransitionLayout.of(transitions, terminals=bool(transitions.terminals.any()))
        if not warm:
            return layout
        state, _ = self._require_model()
        before = TransitionLayout(**state["layout"])
        if replace(layout, terminals=before.terminals) != before or (
            layout.terminals and not before.terminals
        ):
            raise TransitionError(
                f"{transitions.source}: the rows are {layout}, the model's {before}; use fit for a "
                "new model"
            )
        return before

    def _refit_config(self, config: UpsampleConfig, steps: int | None) -> UpsampleConfig:
        """As the present network is, with as many steps as asked for."""
        assert self.config is not None
        steps = max(1, round(config.steps * REFIT_SHARE)) if steps is None else steps
        network = {name: getattr(self.config, name) for name in ("width", "num_layers", "dim_t")}
        return replace(config, steps=steps, **network)

    def _draw(self, num_samples: int, seed: int) -> Transitions:
        state, model = self._require_model()
        assert self.config is not None
        layout = TransitionLayout(**state["layout"])
        with runtime.cpu_threads(threads_for(model)):
            arrays = generator(model, layout, state["bounds"], self.config).sample(
                num_samples, seed=seed
            )
        return Transitions(*arrays, source="synthetic transitions")

    def _require_model(self) -> tuple[dict[str, Any], ElucidatedDiffusion]:
        if self._state is None or self._model is None:
            raise RuntimeError("there is no model yet; call fit(data) first")
        return self._state, self._model


def _seed(seed: int, use: str, number: int) -> int:
    """A seed for one use of many, each independent of the others."""
    sequence = np.random.SeedSequence((seed, number, *use.encode()))
    return int(sequence.generate_state(1, np.uint64)[0] % 2**62)

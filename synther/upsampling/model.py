"""The diffusion model of the short way is built, trained and sampled without gin."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther.action_bounds import ActionBounds
from synther.datasets import in_action_bounds
from synther.diffusion import model_io
from synther.diffusion.conditioning.around import Around, amplified
from synther.diffusion.conditioning.condition import Condition, Target
from synther.diffusion.conditioning.policy import STRENGTH, Policy
from synther.diffusion.conditioning.values import Values, with_values
from synther.diffusion.denoiser_network import ResidualMLPDenoiser, default_arguments
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generation.bounded import match_bounded
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.norm import TransitionSpace
from synther.diffusion.provenance import TRAINED_ON, Provenance
from synther.diffusion.successors import TransitionEnsemble, stored
from synther.diffusion.training.trainer import Trainer
from synther.envs.names import other_environment
from synther.runs import runtime
from synther.transitions import TransitionError, TransitionLayout, Transitions
from synther.upsampling.config import UpsampleConfig


def train(
    transitions: Transitions,
    layout: TransitionLayout,
    config: UpsampleConfig,
    device: torch.device,
    seed: int,
    start: ElucidatedDiffusion | None = None,
    values: Values | None = None,
) -> ElucidatedDiffusion:
    """The averaged model (EMA) after ``config.steps`` steps on ``transitions``.

    Args:
        start: a model whose weights training goes on from; its normaliser is fitted again.
        values: of the condition that ``config`` names, one for each transition.
    """
    before = start.condition if start else None
    rows, condition = with_values(layout.pack(transitions), values, before)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _new_model(rows[:, : layout.row_dim], layout, config, condition)
    if start is not None:
        model.net.load_state_dict(start.net.state_dict())
    settings = {
        "train_batch_size": config.batch_size,
        "small_batch_size": config.batch_size,
        "train_num_steps": config.steps,
        "train_lr": config.learning_rate,
        "save_and_sample_every": None,
        "results_folder": None,
        "device": str(device),
        "seed": seed,
        "layout": layout,
        "cond_dropout": config.cond_dropout,
        # The same steps, six times as many a second on an H100 (docs/performance.md).
        "compile": "cudagraph" if device.type == "cuda" else "off",
    }
    # Every argument is given, here and below, so that what gin is bound to has no say.
    trainer = Trainer(model, rows, **{**default_arguments(Trainer.__init__), **settings})
    with runtime.cpu_threads(runtime.threads_for(model)):
        trainer.train(finish=match_bounded)
    averaged: ElucidatedDiffusion = trainer.ema.ema_model
    return averaged.eval().requires_grad_(False)


@dataclass(frozen=True)
class FittedModel:
    """A trained model with all that its samples need, and say of themselves.

    Args:
        model: in evaluation mode, frozen.
        layout: of its rows.
        bounds: of the actions, lower and upper ``[A]``.
        config: it was trained with, and is sampled with.
        metadata: of the data that samples hand on.
        provenance: what it was trained on and how, as plain values.
        ensemble: regressions of the same rows; None in a model of an earlier version.
    """

    model: ElucidatedDiffusion
    layout: TransitionLayout
    bounds: tuple[list[float], list[float]]
    config: UpsampleConfig
    metadata: dict[str, Any]
    provenance: dict[str, Any]
    ensemble: TransitionEnsemble | None = None

    def draw(
        self,
        num_samples: int,
        seed: int,
        target: Target | Around | None = None,
        guidance: float | None = None,
        policy: Policy | None = None,
        policy_strength: float = STRENGTH,
    ) -> Transitions:
        """New transitions, without metadata; the same seed gives the same ones."""
        with runtime.cpu_threads(runtime.threads_for(self.model)):
            arrays = self._generator.sample(
                num_samples, seed, target, guidance, policy, policy_strength
            )
        return Transitions(*arrays, source="synthetic transitions")

    @property
    def amplifies(self) -> bool:
        """Whether there is a condition that :meth:`around` can raise the own values of rows in."""
        condition = self.model.condition
        return condition is not None and not condition.labels

    def around(
        self,
        real: Transitions,
        num_samples: int,
        noise: float,
        target: Target | None,
        values: NDArray[np.float64] | None,
        seed: int,
    ) -> Around:
        """A target of samples that begin at rows of ``real``, which :func:`rows_to_begin_at` gave,
        drawn at random, each as often as any other. Without ``target`` they are asked for more than
        the rows' own ``values``, where these are given.
        """
        order = np.random.default_rng(seed % 2**32)
        rounds = -(-num_samples // len(real))
        drawn = [order.permutation(len(real)) for _ in range(rounds)]
        chosen = np.concatenate(drawn)[:num_samples]
        condition = self.model.condition
        if target is None and condition is not None and values is not None:
            target = amplified(condition, values[chosen])
        return Around(torch.from_numpy(self.layout.pack(real)[chosen]), noise, target)

    def described(
        self,
        num_samples: int,
        seed: int,
        target: Target | Around | None = None,
        guidance: float | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """The metadata of samples that :meth:`draw` gives: those of the data, what the model is of,
        what the last stage does, what was asked for, and ``more``, in plain values."""
        said = {**self.provenance, **more, "sample_seed": seed}
        # The generator keeps this drawing's last stage for the rows that are asked for the same.
        # On as many threads as the samples, since the last stage draws some to look at.
        with runtime.cpu_threads(runtime.threads_for(self.model)):
            drawing = self._generator.drawing(num_samples, lambda: seed, target, guidance)
        if drawing.stage:
            said["repairs"] = drawing.stage.settings()
        if drawing.asked:
            said["asked"] = drawing.asked.settings()
        return {**self.metadata, "source": "SynthER", "synther": said}

    @functools.cached_property
    def _generator(self) -> SimpleDiffusionGenerator:
        settings = {
            "sampler": self.config.sampler,
            "num_sample_steps": self.config.num_sample_steps,
            "sample_batch_size": self.config.sample_batch_size,
            "action_bounds": self.bounds,
            "consistency": self.config.consistency if self.ensemble else "off",
            "ensemble": self.ensemble,
        }
        arguments = {**default_arguments(SimpleDiffusionGenerator.__init__), **settings}
        return SimpleDiffusionGenerator(self.layout, self.model, **arguments)

    def payload(self) -> dict[str, Any]:
        """Tensors on the CPU and plain values, under the names that ``model-{step}.pt`` has."""
        weights = self.model.state_dict()
        return {
            "ema": {f"ema_model.{name}": value.cpu() for name, value in weights.items()},
            "config": model_io.describe(self.model),
            "layout": model_io.layout_to_plain(self.layout),
            **model_io.provenance_to_plain(self.model),
            "step": self.config.steps,
            "fitted": {
                "bounds": list(self.bounds),
                "config": asdict(self.config),
                "metadata": self.metadata,
                "provenance": self.provenance,
            },
            **({stored.KEY: self.ensemble.payload()} if self.ensemble else {}),
        }

    @classmethod
    def from_payload(cls, payload: dict[str, Any], device: torch.device) -> FittedModel:
        """The model that :meth:`payload` saved, on ``device``."""
        layout = TransitionLayout(**payload["layout"])
        model = model_io.build(payload["config"])
        model.layout = layout
        model.trained_on = Provenance.from_plain(payload.get(TRAINED_ON))
        weights = {key.removeprefix("ema_model."): w for key, w in payload["ema"].items()}
        model_io.load_weights(model, weights, "the model of an Upsampler")
        fitted = dict(payload["fitted"])
        return cls(
            model=model.to(device).eval().requires_grad_(False),
            layout=layout,
            bounds=tuple(fitted.pop("bounds")),
            config=UpsampleConfig(**fitted.pop("config")),
            **fitted,
            ensemble=stored.ensemble_in(payload, device),
        )


def rows_to_begin_at(
    real: Transitions, layout: TransitionLayout, known: Mapping[str, Any]
) -> Transitions:
    """The rows that samples of a model of ``layout`` may begin at, with their actions in its units
    where both say which theirs are.

    Args:
        real: rows of any source.
        layout: of the model's rows.
        known: the metadata of the data that the model is of.

    Raises:
        TransitionError: there are none, or they have other columns than the model, or are known to
            be of another environment.
    """
    if not len(real):
        raise TransitionError(
            f"around: {real.source} has no rows, and samples begin at some; give one or more"
        )
    found, own = ((d.observation_dim, d.action_dim) for d in (real, layout))
    if found != own:
        raise TransitionError(
            f"around: {real.source} has {found[0]} observation and {found[1]} action columns, the "
            f"data of the model {own[0]} and {own[1]}; give rows of the same columns"
        )
    names = (data.get("env_id") for data in (known, real.metadata))
    if others := other_environment(*(name and str(name) for name in names)):
        raise TransitionError(
            f"around: {others} ({real.source}); give rows of the model's environment, or such as "
            "name none, without an 'env_id' in their metadata"
        )
    units = ActionBounds.stated(known, layout.action_dim)
    if units is None or real.action_bounds is None:
        return real
    return in_action_bounds(real, units.low, units.high)


def _new_model(
    rows: NDArray[np.float32],
    layout: TransitionLayout,
    config: UpsampleConfig,
    condition: Condition | None,
) -> ElucidatedDiffusion:
    network = {
        **default_arguments(ResidualMLPDenoiser.__init__),
        **{"d_in": layout.row_dim, "dim_t": config.dim_t},
        **{"mlp_width": config.width, "num_layers": config.num_layers},
        "cond_dim": condition.dim if condition else None,
    }
    space = {**default_arguments(TransitionSpace.__init__), "layout": layout}
    return ElucidatedDiffusion(
        ResidualMLPDenoiser(**network),
        TransitionSpace(rows, **space),
        (layout.row_dim,),
        **{
            **default_arguments(ElucidatedDiffusion.__init__),
            **{"layout": layout, "condition": condition},
        },
    )

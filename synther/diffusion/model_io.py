"""Diffusion models are saved with their description, so that they load without anything else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synther.diffusion.conditioning.condition import Condition
from synther.diffusion.denoiser_network import (
    NETWORKS,
    ResidualMLPDenoiser,
    default_arguments,
)
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.norm import NORMALIZERS
from synther.diffusion.norm.transition_space import complete_state
from synther.diffusion.provenance import TRAINED_ON, Provenance
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.runs import gin_config
from synther.transitions import TransitionLayout

_DIFFUSION_DEFAULTS = default_arguments(ElucidatedDiffusion.__init__)
for _apart in ("layout", "condition"):  # which a checkpoint holds apart
    del _DIFFUSION_DEFAULTS[_apart]
_NETWORK_DEFAULTS = default_arguments(ResidualMLPDenoiser.__init__)

# The data set's rows are make_inputs'; online, a macro of this name or the last binding says it.
_SAYS_TERMINALS = (
    "make_inputs.modelled_terminals",
    "modelled_terminals",
    "split_diffusion_samples.modelled_terminals",
)


@dataclass(frozen=True)
class LoadedModel:
    """A model out of a checkpoint.

    Args:
        model: the model with the EMA weights, in evaluation mode, frozen.
        config: its description, as :func:`describe` gives it.
        step: the training step that it was written at.
        path: the file.
    """

    model: ElucidatedDiffusion
    config: dict[str, Any]
    step: int
    path: Path

    @property
    def layout(self) -> TransitionLayout | None:
        """The layout of the model's rows; None where neither the file nor the caller said."""
        return self.model.layout

    @property
    def trained_on(self) -> Provenance | None:
        """What the file says of the data; None where it says nothing."""
        found: Provenance | None = self.model.trained_on
        return found

    def layout_for(self, observation_dim: int, action_dim: int) -> TransitionLayout:
        """The layout of the model's rows, for data or an environment of so many columns.

        A file of the 2023 release does not hold it. Whether there is a terminal column is then what
        ``config.gin`` beside the file says, or else the release's default, that there is one.

        Raises:
            CheckpointError: the model is of other columns.
        """
        if self.layout is not None:
            terminals, reason = self.layout.terminals, "as the file says"
        else:
            terminals, reason = _modelled_terminals(self.path)
        expected = TransitionLayout(observation_dim, action_dim, terminals)
        (columns,) = self.model.event_shape
        if (self.layout or expected) != expected or columns != expected.row_dim:
            found = f"{columns} columns"
            if self.layout is not None:
                found = f"{self.layout.observation_dim} observation and "
                found += f"{self.layout.action_dim} action columns"
            raise CheckpointError(
                f"{self.path}: the model's rows have {found}, expected {expected.row_dim} columns: "
                f"{observation_dim} observation and {action_dim} action columns, "
                f"{'with' if terminals else 'without'} a terminal column ({reason})"
            )
        return expected


def describe(model: ElucidatedDiffusion) -> dict[str, Any]:
    """Plain values from which :func:`build` makes the same model, up to its weights."""
    names = {normalizer: name for name, normalizer in NORMALIZERS.items()}
    arguments = model.normalizer.arguments
    return {
        "network": type(model.net).__name__,
        "network_arguments": dict(model.net.config),  # type: ignore[arg-type]
        "diffusion_arguments": {name: getattr(model, name) for name in _DIFFUSION_DEFAULTS},
        "normalizer_type": names[type(model.normalizer)],
        "skip_dims": list(model.normalizer.skip_dims),
        **({"normalizer_arguments": arguments} if arguments else {}),
        **({"condition": model.condition.to_plain()} if model.condition else {}),
    }


def build(config: Mapping[str, Any]) -> ElucidatedDiffusion:
    """The model that :func:`describe` described, its weights not yet loaded.

    Every argument is given, so that gin's global configuration has no say.
    """
    name = config["network"]
    if name not in NETWORKS:
        raise CheckpointError(
            f"the model's network '{name}' is not known (there are {', '.join(NETWORKS)}); "
            "import the module that defines it first"
        )
    arguments = config["network_arguments"]
    dim = arguments["d_in"]
    normalizer = NORMALIZERS[config["normalizer_type"]](
        torch.zeros(1, dim), config["skip_dims"], **config.get("normalizer_arguments", {})
    )
    net = NETWORKS[name](**arguments)
    stored = config.get("condition")
    return ElucidatedDiffusion(
        net,
        normalizer,
        (dim,),
        **config["diffusion_arguments"],
        condition=Condition.from_plain(stored) if stored else None,
    )


def load_model(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    layout: TransitionLayout | None = None,
) -> LoadedModel:
    """Read a model; no data set, environment or gin configuration is needed.

    A checkpoint of the 2023 release does not describe itself: its architecture is then taken from
    the ``config.gin`` beside it, or else from its weights.

    Args:
        path: ``model-{step}.pt``.
        device: the device that the model is put on.
        layout: the layout of the rows, for a file that does not hold it; checked against one that
            does. :meth:`LoadedModel.layout_for` gives it where only the columns are known.

    Raises:
        CheckpointError: damaged, not a diffusion model, or parameters or a layout that do not fit.
    """
    payload = checkpoint.load(path)
    with checkpoint.fitting(path, "not a diffusion model"):
        weights = _ema_weights(payload, path)
        config = payload.get("config") or config_of_release2023(path, weights)
        model = build(config)
        load_weights(model, weights, str(path))
        stored = payload.get("layout")
        found = TransitionLayout(**stored) if stored else layout
        step = int(payload.get("step", 0))
        if layout is not None and found != layout:
            raise CheckpointError(f"{path}: the model's layout is {found}, expected {layout}")
        try:
            model.layout = found
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
        model.trained_on = _provenance_in(payload)
        if model.trained_on is not None and found is not None:
            model.trained_on.check(found.action_dim)
    model.to(device).eval().requires_grad_(False)
    return LoadedModel(model, dict(config), step, Path(path))


def layout_to_plain(layout: TransitionLayout | None) -> dict[str, Any] | None:
    """A layout as plain values for a checkpoint."""
    return None if layout is None else asdict(layout)


def _provenance_in(payload: Mapping[str, Any]) -> Provenance | None:
    fitted = payload.get("fitted")
    if TRAINED_ON in payload or not isinstance(fitted, Mapping):
        return Provenance.from_plain(payload.get(TRAINED_ON))
    low, high = fitted["bounds"]  # of an Upsampler of an earlier version
    return Provenance.from_plain({**fitted["metadata"], "samples_low": low, "samples_high": high})


def provenance_to_plain(model: ElucidatedDiffusion) -> dict[str, Any]:
    """The entry of a checkpoint that says what the model was trained on; none where unknown."""
    known: Provenance | None = model.trained_on
    return {} if known is None else {TRAINED_ON: known.to_plain()}


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """``load_state_dict`` with an error that names the first parameter that does not fit."""
    expected, weights = module.state_dict(), dict(weights)
    complete_state(weights)
    if missing := [name for name in expected if name not in weights]:
        raise CheckpointError(f"{source}: parameter '{missing[0]}' is missing")
    if surplus := [name for name in weights if name not in expected]:
        raise CheckpointError(f"{source}: parameter '{surplus[0]}' has no place in this model")
    for name, value in expected.items():
        if weights[name].shape != value.shape:
            raise CheckpointError(
                f"{source}: parameter '{name}' has shape {tuple(weights[name].shape)}, expected "
                f"{tuple(value.shape)}"
            )
    module.load_state_dict(weights)


def _ema_weights(payload: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    prefix = "ema_model."
    ema = payload.get("ema")
    if not isinstance(ema, dict) or not any(name.startswith(prefix) for name in ema):
        raise CheckpointError(
            f"{path}: has no weights under 'ema' (keys {sorted(payload)}), expected a model"
        )
    return {
        name.removeprefix(prefix): value for name, value in ema.items() if name.startswith(prefix)
    }


def config_of_release2023(
    path: str | os.PathLike[str], weights: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The configuration of a checkpoint that lacks one.

    Sizes come out of the weights. What weights do not show, such as the activation and the
    sampler's settings, comes out of ``config.gin`` beside the file, or from the defaults.
    """
    bound = _bindings_beside(path)
    network = bound.get("construct_diffusion_model.denoising_network", "ResidualMLPDenoiser")
    if network.rsplit(".", 1)[-1].rsplit("/", 1)[-1] != "ResidualMLPDenoiser":
        raise CheckpointError(f"{path}: its network is '{network}', expected ResidualMLPDenoiser")
    normalizer_type = "minmax" if "normalizer.min" in weights else "standard"
    arguments = {**_bound_to("ResidualMLPDenoiser", _NETWORK_DEFAULTS, bound)}
    try:
        arguments.update(_sizes(weights))
        dim = len(weights["normalizer.min" if normalizer_type == "minmax" else "normalizer.mean"])
    except (KeyError, StopIteration) as error:
        raise CheckpointError(f"{path}: not a ResidualMLPDenoiser, no parameter {error}") from error
    joined = weights["net.proj.weight"].shape[1]
    arguments.update(d_in=dim, cond_dim=joined - dim if joined > dim else None)
    return {
        "network": "ResidualMLPDenoiser",
        "network_arguments": arguments,
        "diffusion_arguments": _bound_to("ElucidatedDiffusion", _DIFFUSION_DEFAULTS, bound),
        "normalizer_type": normalizer_type,
        "skip_dims": _skipped_in_release2023(weights),
    }


def _bindings_beside(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The bindings of ``config.gin`` beside a checkpoint; none where there is no such file."""
    gin_file = Path(path).with_name("config.gin")
    if not gin_file.is_file():
        return {}
    return gin_config.bindings_of(gin_config.read(gin_file), str(gin_file))


def _modelled_terminals(path: Path) -> tuple[bool, str]:
    """Say whether the rows of a checkpoint without a layout end in a terminal column, and how that
    is known: from ``config.gin``, never from their number of columns."""
    gin_file = path.with_name("config.gin")
    bound = _bindings_beside(path)
    for name in _SAYS_TERMINALS:
        if name in bound:
            if not isinstance(bound[name], bool):
                raise CheckpointError(f"{gin_file}: {name} is {bound[name]!r}, expected a bool")
            return bound[name], f"as {gin_file} says ({name} = {bound[name]})"
    return True, f"the 2023 release's default, as there is no word on it in {gin_file}"


def _bound_to(name: str, defaults: Mapping[str, Any], bound: Mapping[str, Any]) -> dict[str, Any]:
    return {key: bound.get(f"{name}.{key}", value) for key, value in defaults.items()}


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    width, dim_t = weights["net.residual_mlp.network.0.weight"].shape
    blocks = {
        name.split(".")[3]
        for name in weights
        if name.startswith("net.residual_mlp.network.") and ".linear." in name
    }
    frequencies = weights.get("net.time_mlp.0.weights")
    sizes: dict[str, Any] = {
        "mlp_width": width,
        "dim_t": dim_t,
        "num_layers": len(blocks),
        "layer_norm": any(".ln." in name for name in weights),
    }
    if frequencies is not None:
        sizes["learned_sinusoidal_dim"] = 2 * len(frequencies)
    else:
        sizes.update(random_fourier_features=False, learned_sinusoidal_cond=False)
    return sizes


def _skipped_in_release2023(weights: Mapping[str, Tensor]) -> list[int]:
    # The 2023 release skipped a column of the standard normaliser by mean 0 and std 1, and none
    # with min-max.
    if "normalizer.mean" not in weights:
        return []
    unit = (weights["normalizer.mean"] == 0) & (weights["normalizer.std"] == 1)
    return unit.nonzero().flatten().tolist()

"""Baselines make more transitions without diffusion, by noise on real rows or by models of tables.

Diffusion samples are compared with them (the comparison of SynthER, arXiv 2303.06614).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.datasets.action_units import sample_bounds
from synther.installed import install_hint
from synther.transitions import TransitionLayout, Transitions

Generator = np.random.Generator

NOISE_LEVEL = 0.1
GMM_COMPONENTS = 32
_STATES = ("observations", "next_observations")


class MissingBaselineError(ImportError):
    """The library of a baseline is not installed; the message says what to install."""


def make_baseline(
    name: str,
    training: Transitions,
    count: int,
    *,
    seed: int = 0,
    terminals: bool = True,
    epochs: int = 300,
) -> Transitions:
    """Make ``count`` transitions out of the training rows by other means.

    Args:
        name: ``noise``, ``multiplicative`` (either with a level, ``noise=0.3``), ``gmm``, ``vae``
            or ``ctgan``.
        training: the real rows.
        count: how many transitions.
        seed: the seed of everything that is drawn.
        terminals: whether the models learn the terminal flag; their rows have none otherwise.
        epochs: the epochs of training of ``vae`` and ``ctgan``; theirs by default.

    Raises:
        ValueError: an unknown name, or a level that is not a positive number.
        MissingBaselineError: a library of the extra ``[baselines]`` is not installed.
    """
    kind, level = parse_baseline(name)
    rng = np.random.default_rng(seed)
    if kind in _AUGMENTATIONS:
        rows = rng.choice(len(training), count, replace=count > len(training))
        return _AUGMENTATIONS[kind](training.subset(rows), training, level, rng)
    layout = TransitionLayout.of(training, terminals=terminals)
    made = _MODELS[kind](layout.pack(training), count, layout, epochs, seed)
    actions = layout.columns["actions"]
    bounds = sample_bounds(training)
    made[:, actions] = made[:, actions].clip(bounds.low, bounds.high)
    return layout.unpack(made.astype(np.float32), source=name)


def parse_baseline(name: str) -> tuple[str, float]:
    """``noise=0.3`` -> ``("noise", 0.3)``; see :func:`make_baseline`."""
    kind, _, text = name.partition("=")
    try:
        level = float(text) if text else NOISE_LEVEL
    except ValueError:
        level = -1.0
    if kind not in BASELINES or (text and kind not in _AUGMENTATIONS) or level <= 0:
        raise ValueError(
            f"baseline '{name}': expected one of {', '.join(BASELINES)}, the first two with a "
            f"level if you like, such as noise=0.3"
        )
    return kind, level


def _noise(rows: Transitions, training: Transitions, level: float, rng: Generator) -> Transitions:
    """Gaussian noise on either observation, of ``level`` standard deviations of its column."""
    noisy = {}
    for name in _STATES:
        values = getattr(rows, name)
        spread = getattr(training, name).std(axis=0)
        noisy[name] = values + level * spread * rng.normal(size=values.shape)
    return Transitions.from_arrays({**rows.arrays(), **noisy})


def _multiplicative(
    rows: Transitions, training: Transitions, level: float, rng: Generator
) -> Transitions:
    """Every entry of either observation times a number from ``[1 - level, 1 + level]``."""
    noisy = {}
    for name in _STATES:
        values = getattr(rows, name)
        noisy[name] = values * rng.uniform(1 - level, 1 + level, values.shape)
    return Transitions.from_arrays({**rows.arrays(), **noisy})


def _gaussian_mixture(
    table: NDArray[np.float32], count: int, layout: TransitionLayout, epochs: int, seed: int
) -> NDArray[np.float64]:
    """``GMM_COMPONENTS`` components with full covariances, fitted by EM to standardised rows."""
    mixture = _require("sklearn.mixture")
    mean, std = table.mean(axis=0, dtype=np.float64), table.std(axis=0, dtype=np.float64)
    std[std == 0] = 1
    components = min(GMM_COMPONENTS, len(table))
    model = mixture.GaussianMixture(components, random_state=seed, reg_covar=1e-5)
    model.fit((table - mean) / std)
    rows: NDArray[np.float64] = model.sample(count)[0] * std + mean
    return np.random.default_rng(seed).permutation(rows)  # they come component by component


def _from_ctgan(class_name: str) -> Callable[..., NDArray[np.float64]]:
    def sample(
        table: NDArray[np.float32], count: int, layout: TransitionLayout, epochs: int, seed: int
    ) -> NDArray[np.float64]:
        model = getattr(_require("ctgan"), class_name)(epochs=epochs, verbose=True)
        model.set_random_state(seed)
        flags = [layout.row_dim - 1] if layout.terminals else []  # columns that are categories
        model.fit(table, flags)
        return np.asarray(model.sample(count), np.float64)

    return sample


def _require(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingBaselineError(
            f"this baseline needs the package '{error.name}', which is not installed: "
            f"{install_hint('baselines')}"
        ) from error


_AUGMENTATIONS: Mapping[str, Callable[..., Transitions]] = {
    "noise": _noise,
    "multiplicative": _multiplicative,
}
_MODELS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "gmm": _gaussian_mixture,
    "vae": _from_ctgan("TVAE"),
    "ctgan": _from_ctgan("CTGAN"),
}
BASELINES: Sequence[str] = (*_AUGMENTATIONS, *_MODELS)

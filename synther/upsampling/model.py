"""The diffusion model of the short way: built, trained and sampled with no say for gin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther import runtime
from synther.diffusion.denoiser_network import ResidualMLPDenoiser, default_arguments
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generator import SimpleDiffusionGenerator
from synther.diffusion.norm import Normalizer
from synther.diffusion.refill import SMALL_NETWORK
from synther.diffusion.trainer import Trainer
from synther.transitions import TransitionLayout, Transitions
from synther.upsampling.config import UpsampleConfig


def train(
    transitions: Transitions,
    layout: TransitionLayout,
    config: UpsampleConfig,
    device: torch.device,
    seed: int,
    start: ElucidatedDiffusion | None = None,
) -> ElucidatedDiffusion:
    """The averaged model (EMA) after ``config.steps`` steps on ``transitions``.

    Args:
        start: a model whose weights training goes on from; its normaliser is fitted again.
    """
    rows = layout.pack(transitions)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _new_model(rows, layout, config)
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
    }
    # Every argument is given, here and below, so that what gin is bound to has no say.
    trainer = Trainer(model, rows, **{**default_arguments(Trainer.__init__), **settings})
    with runtime.cpu_threads(threads_for(model)):
        trainer.train()
    averaged: ElucidatedDiffusion = trainer.ema.ema_model
    return averaged.eval().requires_grad_(False)


def action_bounds(transitions: Transitions) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[-1, 1], or the range of the data in the columns that leave it; ``[A]`` each."""
    low, high = transitions.actions.min(axis=0), transitions.actions.max(axis=0)
    inside = (low >= -1) & (high <= 1)
    return np.where(inside, np.float32(-1), low), np.where(inside, np.float32(1), high)


def generator(
    model: ElucidatedDiffusion,
    layout: TransitionLayout,
    bounds: tuple[Any, Any],
    config: UpsampleConfig,
) -> SimpleDiffusionGenerator:
    """Of rows whose actions are kept to ``bounds``."""
    low, high = (np.asarray(bound, np.float32) for bound in bounds)
    spaces = SimpleNamespace(
        observation_space=SimpleNamespace(shape=(layout.observation_dim,)),
        action_space=SimpleNamespace(shape=(layout.action_dim,), low=low, high=high),
    )
    settings = {
        "sampler": config.sampler,
        "num_sample_steps": config.num_sample_steps,
        "sample_batch_size": config.sample_batch_size,
    }
    arguments = {**default_arguments(SimpleDiffusionGenerator.__init__), **settings}
    return SimpleDiffusionGenerator(spaces, model, **arguments)


def threads_for(model: ElucidatedDiffusion) -> int:
    """Of the CPU: a single one for a small network, else every core."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return runtime.RL_THREADS if parameters < SMALL_NETWORK else 0


def _new_model(
    rows: NDArray[np.float32], layout: TransitionLayout, config: UpsampleConfig
) -> ElucidatedDiffusion:
    network = {
        **default_arguments(ResidualMLPDenoiser.__init__),
        **{"d_in": layout.row_dim, "dim_t": config.dim_t},
        **{"mlp_width": config.width, "num_layers": config.num_layers},
    }
    # A terminal is 0 or 1, and stays so.
    skipped = [layout.row_dim - 1] if layout.terminals else []
    return ElucidatedDiffusion(
        ResidualMLPDenoiser(**network),
        Normalizer(rows, skipped),
        (layout.row_dim,),
        **default_arguments(ElucidatedDiffusion.__init__),
    )

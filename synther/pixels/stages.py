"""What ``drq_bc.py`` does: train from pictures, fine-tune on latents, or run the whole recipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from synther.datasets.vd4rl import PixelEpisodes, find_vd4rl, read_vd4rl
from synther.diffusion.generation.generator import SamplingError, SimpleDiffusionGenerator
from synther.diffusion.model_io import load_model
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning.streams import generators_for
from synther.pixels.config import PixelConfig
from synther.pixels.drq_bc import DrQBC
from synther.pixels.frame_replay import FrameReplay
from synther.pixels.latent_agent import LatentAgent
from synther.pixels.latents import FixedRows, GeneratedRows, LatentSource, latent_buffer
from synther.pixels.pixel_arguments import build_parser, config_of
from synther.pixels.pixel_folder import PREFIX, checkpoint_in, finished
from synther.pixels.pixel_loop import PixelRun, evaluation
from synther.runs.commands import error_door, naming_last_checkpoint
from synther.runs.runtime import cpu_threads, resolve_device
from synther.runs.settings import ConfigError, build, typed
from synther.transitions import TransitionError, TransitionLayout

OWN = (
    "algo", "image_size", "frame_stack", "action_repeat", "channels", "latent_dim", "hidden_width",
    "n_step", "discount",
)  # fmt: skip
"""Keys of an agent that fine-tuning takes over from it."""


def command(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, run, say the result in one line."""
    parser = build_parser("DrQ+BC and BC from pixels, and their heads on (synthetic) latents.")
    parser.add_argument("--recipe", action="store_true", help="all steps: see the README")
    args = parser.parse_args(argv)
    with error_door(SamplingError):
        config = config_of(args)
        if vars(args).get("recipe"):
            from synther.pixels.recipe import run_recipe

            run_recipe(config)
            return
        result = train(config)
        sys.stdout.write(
            f"{config.algo} on {config.task} {config.level}: return {result['return_mean']:.1f} "
            f"({len(result['returns'])} episodes, {result['steps']} steps, "
            f"{result['seconds']:.0f} s)\n"
        )


def train(config: PixelConfig) -> dict[str, Any]:
    """The first stage, or with ``load_agent`` the second; what ``result.json`` holds.

    With ``resume``, a run that has finished is not trained again: its result is returned.
    """
    device = resolve_device(config.device)
    loaded = None if config.load_agent is None else load_agent(config.load_agent, device)
    if loaded is not None:  # what the agent is made of is its own; how it goes on, config says
        config = replace(config, **{key: getattr(loaded[1], key) for key in OWN})
    if (result := finished(config)) is not None:
        return result
    with naming_last_checkpoint(config.path, PREFIX):
        if loaded is None:
            return _on_pictures(config, device).train()
        return _on_latents(config, loaded[0], loaded[2], device).train()


def _on_pictures(config: PixelConfig, device: torch.device) -> PixelRun:
    replay = open_replay(config, device)
    metadata = replay.episodes.metadata
    action_dim = replay.windows.actions.shape[1]
    weights = generators_for([config.seed], "init")[0]
    agent = DrQBC(config, action_dim, weights, device)
    settings = config.seen(metadata)
    about = {"action_dim": action_dim, "seen": {"env_id": settings.env_id}}
    about["seen"]["rendering"] = settings.rendering
    evaluate = evaluation(config, settings, action_dim)
    return PixelRun(config, agent, replay, evaluate, device=device, about=about)


def open_data(config: PixelConfig) -> PixelEpisodes:
    """The data set that a configuration names."""
    files = find_vd4rl(config.root, config.task, config.level, config.image_size)
    data = read_vd4rl(
        files,
        in_memory_bytes=int(config.ram_gb * 2**30),
        cache=Path(config.frames_cache) if config.frames_cache else None,
    )
    if data.image_size != config.image_size:
        raise TransitionError(
            f"{data.source}: pictures of {data.image_size} pixels, expected {config.image_size}"
        )
    return data


def open_replay(config: PixelConfig, device: torch.device) -> FrameReplay:
    """Its windows, in an order of the configuration's seed."""
    return FrameReplay(
        open_data(config),
        frame_stack=config.frame_stack,
        n_step=config.n_step,
        discount=config.discount,
        batch_size=config.batch_size,
        generator=generators_for([config.seed], "data")[0],
        device=device,
    )


def load_agent(
    path: str, device: torch.device | str = "cpu"
) -> tuple[DrQBC, PixelConfig, dict[str, Any]]:
    """An agent out of a run's folder or checkpoint, the configuration it was trained with, and
    what else the checkpoint holds (``step``, ``seen``, ``evaluations``).

    Raises:
        CheckpointError: no checkpoint, or not one of this agent.
    """
    file = checkpoint_in(path)
    state = checkpoint.load(file, device)
    try:
        config = build(PixelConfig, typed(PixelConfig, state["config"]))
        agent = DrQBC(config, state["action_dim"], torch.Generator(), device)
        agent.load_state_dict(state["agent"]["networks"])
    except (KeyError, TypeError, RuntimeError, ConfigError) as error:
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{file}: not an agent trained from pixels: {first}") from None
    return agent, config, {key: state[key] for key in ("step", "seen", "evaluations")}


def _on_latents(
    config: PixelConfig, agent: DrQBC, about: Mapping[str, Any], device: torch.device
) -> PixelRun:
    agent.heads.config = config
    layout = TransitionLayout(agent.latent_dim, agent.heads.action_dim)
    source = latent_source(config, layout, device)
    learner = LatentAgent(config, agent, agent.heads, trained_steps=about["step"])
    evaluate = evaluation(config, config.seen(about["seen"]), agent.heads.action_dim)
    return PixelRun(config, learner, source, evaluate, device=device, about={})


def latent_source(
    config: PixelConfig, layout: TransitionLayout, device: torch.device
) -> LatentSource:
    """Batches of synthetic latents, ``mix`` of them real.

    Raises:
        ValueError: no path, or a mix without the real latents.
        TransitionError: rows of other widths than the agent's.
    """
    path = config.diffusion.path
    if path is None:
        raise ValueError("--load_agent needs --diffusion.path: latents (.npz) or a model (.pt)")
    real = round(config.mix * config.batch_size)
    if real and config.latents is None:
        raise ValueError(f"--mix {config.mix} needs --latents: the real ones, of encode.py")
    parts: list[FixedRows | GeneratedRows] = []
    if synthetic := config.batch_size - real:
        if path.endswith(".pt"):
            noise = generators_for([config.seed], "synthetic", device)[0]
            parallel = config.diffusion.batch_parallelism
            parts.append(
                GeneratedRows(_model_rows(config, layout, device), synthetic, parallel, noise)
            )
        else:
            order = generators_for([config.seed], "synthetic", device)[0]
            parts.append(FixedRows(latent_buffer(path, layout, device), synthetic, order))
    if real:
        assert config.latents is not None
        order = generators_for([config.seed], "data", device)[0]
        parts.append(FixedRows(latent_buffer(config.latents, layout, device), real, order))
    return LatentSource(layout, parts)


def _model_rows(config: PixelConfig, layout: TransitionLayout, device: torch.device) -> Any:
    assert config.diffusion.path is not None
    loaded = load_model(config.diffusion.path, device)
    plain = replace(layout, terminals=False)
    if loaded.layout not in (layout, plain):
        raise TransitionError(
            f"{config.diffusion.path}: a model of {loaded.layout}, the agent's latents are {layout}"
        )
    sampler = SimpleDiffusionGenerator(
        loaded.layout, loaded.model, config.diffusion.num_steps, sampler=config.diffusion.sampler
    )

    def generate(count: int, generator: torch.Generator) -> torch.Tensor:
        with cpu_threads(config.threads):
            return sampler.sample_rows(count, generator)

    return generate

"""The two stages of a pixel agent: it is trained from pictures, then its heads on latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from synther.datasets.digest import file_digest, pixel_digest
from synther.datasets.vd4rl import PixelEpisodes, find_vd4rl, read_vd4rl
from synther.envs.pixels import PixelEnv, PixelEvaluator, PixelSettings
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError, fingerprint
from synther.learning.learner import Agent
from synther.learning.loop import Evaluation, Training
from synther.learning.sources import BatchSource
from synther.learning.streams import generators_for
from synther.learning.timetable import Timetable
from synther.pixels.config import PixelConfig
from synther.pixels.frame_replay import FrameReplay
from synther.pixels.image_agent import DrQBC
from synther.pixels.latent_agent import LatentAgent
from synther.pixels.latent_source import latent_source
from synther.runs.commands import naming_last_checkpoint
from synther.runs.folder import PREFIX, RunFolder, checkpoint_in
from synther.runs.lock import FolderLock
from synther.runs.loggers import require_services
from synther.runs.precision import settled
from synther.runs.runtime import cpu_threads, resolve_device
from synther.runs.settings import ConfigError, as_dict, build, typed, types_of
from synther.transitions import TransitionError, TransitionLayout

OWN = (
    "algo", "image_size", "frame_stack", "action_repeat", "channels", "latent_dim", "hidden_width",
    "n_step", "discount",
)  # fmt: skip
"""Keys of an agent that fine-tuning takes over from it."""
OWN_FILES = (f"{PREFIX}-*.pt", "result.json", "result-*.json")
"""What a run writes into its folder."""
MAY_DIFFER = {"folder", "ram_gb", "frames_cache", "root"} | {
    key for key in types_of(PixelConfig) if key.startswith("recipe.")
}
"""Keys that a resumed run may have otherwise."""


def train(config: PixelConfig, *, lengthen: bool = True) -> dict[str, Any]:
    """The first stage, or with ``load_agent`` the second; what ``result.json`` holds.

    With ``resume``, a run that has finished is not trained again: its result is returned. With more
    steps than it was trained for, it goes on with the rest of them, where ``lengthen`` permits it.
    """
    device = resolve_device(config.device)
    require_services(config)
    config = replace(config, precision=settled(config.precision, device))
    loaded = None if config.load_agent is None else load_agent(config.load_agent, device)
    if loaded is not None:  # what the agent is made of is its own; how it goes on, config says
        config = replace(config, **{key: getattr(loaded[1], key) for key in OWN})
    folder = _folder_of(config, lengthen)
    if config.resume and folder is None:
        raise ConfigError("--resume needs --folder, to know what to continue")
    with FolderLock(config.path) as lock, naming_last_checkpoint(config.path, PREFIX):
        if config.resume and folder is not None:
            lock.acquire()
            if folder.file.exists():
                folder.require_same()
                if folder.lengthened() is None and (finished := folder.result()) is not None:
                    return finished
        if loaded is None:
            training = _on_pictures(config, device)
        else:
            training = _on_latents(config, loaded[0], loaded[2], device)
        # All that can be wrong has shown itself before an earlier run is set aside.
        lock.acquire()
        if folder is not None:
            if config.resume and folder.file.exists():
                training.resume()
            folder.claim(resume=config.resume)
        with cpu_threads(config.threads):
            training.run()
        result = _result_of(training)
        if folder is not None:
            folder.finish(result)
    return result


def _folder_of(config: PixelConfig, lengthen: bool) -> RunFolder | None:
    if config.path is None:
        return None
    lengths = ("max_timesteps",) if lengthen else ()
    return RunFolder(config.path, "config.json", config, MAY_DIFFER, own=OWN_FILES, lengths=lengths)


def _result_of(training: Training) -> dict[str, Any]:
    """What ``result.json`` holds: ``steps seconds returns return_mean evaluations``."""
    returns = training.evaluations[-1]["returns"]
    return {
        "steps": training.step,
        "seconds": round(training.seconds, 1),
        "returns": returns,
        "return_mean": sum(returns) / len(returns),
        "evaluations": training.evaluations,
    }


Evaluate = Callable[[Agent], NDArray]
"""Undiscounted returns ``[episodes]`` of an agent."""


def evaluation(config: PixelConfig, settings: PixelSettings, action_dim: int) -> Evaluate:
    """A function from an agent to the undiscounted returns ``[episodes]`` of ``n_episodes``
    episodes, which depend on the seed alone.

    The environments live as long as an evaluation: idle renderers hold memory. A first picture is
    drawn at once, so that nothing is trained in vain.

    Raises:
        RenderingError: nothing can draw here.
        ValueError: an environment with other actions than the data's.
    """
    env = PixelEnv(settings)
    env.reset(seed=config.seed)
    env.close()
    if env.action_dim != action_dim:
        raise ValueError(
            f"{settings.env_id} has {env.action_dim} action columns, the data {action_dim}; "
            "choose another environment with --env"
        )

    def evaluate(agent: Agent) -> NDArray:
        with closing(PixelEvaluator(settings, config.n_episodes)) as evaluator:
            return evaluator.run(agent.act, config.seed)

    return evaluate


def _training(
    config: PixelConfig,
    agent: Agent,
    source: BatchSource,
    play: Evaluate,
    device: torch.device,
    about: Mapping[str, Any],
    data: Mapping[str, str],
) -> Training:
    """The loop of either stage, at its beginning."""

    def evaluate() -> Evaluation:
        returns = play(agent)
        metrics = {"eval_return": returns.mean(), "eval_return_std": returns.std()}
        record = {"returns": [float(each) for each in returns]}
        return Evaluation(record, metrics, f"return {returns.mean():.1f}")

    return Training(
        agent,
        source,
        evaluate,
        Timetable(
            config.max_timesteps,
            config.log_every,
            config.eval_freq,
            config.checkpoint_every,
            config.update_every,
        ),
        seeds=[config.seed],
        device=device,
        config=as_dict(config),
        logs=config,
        name=config.path.name if config.path else config.algo,
        folder=config.path,
        about=about,
        data=data,
        precision=config.precision,
    )


def _on_pictures(config: PixelConfig, device: torch.device) -> Training:
    replay = open_replay(config, device)
    metadata = replay.episodes.metadata
    action_dim = replay.windows.actions.shape[1]
    weights = generators_for([config.seed], "init")[0]
    agent = DrQBC(config, action_dim, weights, device)
    settings = config.seen(metadata)
    about = {"action_dim": action_dim, "seen": {"env_id": settings.env_id}}
    about["seen"]["rendering"] = settings.rendering
    evaluate = evaluation(config, settings, action_dim)
    data = {"task": pixel_digest(replay.episodes)}
    return _training(config, agent, replay, evaluate, device, about, data)


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
) -> Training:
    agent.heads.config = config
    layout = TransitionLayout(agent.latent_dim, agent.heads.action_dim)
    encoder = fingerprint(agent)
    source = latent_source(config, layout, device, encoder)
    learner = LatentAgent(config, agent, agent.heads, trained_steps=about["step"])
    evaluate = evaluation(config, config.seen(about["seen"]), agent.heads.action_dim)
    paths = {"diffusion.path": config.diffusion.path, "latents": config.latents}
    data = {key: file_digest(path) for key, path in paths.items() if path is not None}
    data["load_agent"] = f"{encoder} at step {about['step']}"
    return _training(config, learner, source, evaluate, device, {}, data)

"""The run of an offline algorithm: its data, agent and environments are put together and trained.

The training loop itself is :mod:`synther.learning.loop`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from synther.corl.shared.buffer import RewardNormalizer, StateNormalizer, prepare_replay_buffer
from synther.corl.shared.config import RunConfig
from synther.corl.shared.result import evaluation_of, result_of
from synther.corl.shared.run_folder import NumberedFolder, load_weights
from synther.datasets import load_dataset, with_action_bounds
from synther.datasets.digest import content_digest, file_digest
from synther.datasets.files import HDF5_SUFFIXES
from synther.envs import Evaluator, time_limit, use_backend
from synther.envs.evaluation_pool import Played
from synther.learning.evaluation import Evaluations, Pending
from synther.learning.journal import Evaluation
from synther.learning.learner import Agent, Dims, StackPolicy, acting_copy
from synther.learning.loop import Training
from synther.learning.streams import generators_for
from synther.learning.timetable import Timetable
from synther.runs.commands import naming_last_checkpoint
from synther.runs.folder import PREFIX, RunFolder
from synther.runs.loggers import require_services
from synther.runs.precision import settled
from synther.runs.runtime import (
    cpu_threads,
    resolve_device,
    say_what_waits,
    use_deterministic_kernels,
)
from synther.runs.settings import ConfigError, as_dict, keywords
from synther.transitions import Transitions

BuildAgent = Callable[[Any, Dims, list[torch.Generator], torch.device], Agent]
"""(configuration, dims, generators of the weights, device) -> agent."""


class Prepared(NamedTuple):
    """A run that can be started: the loop, and what plays its evaluations."""

    training: Training
    evaluations: Evaluations
    env_id: str


def run(config: RunConfig, build: BuildAgent) -> dict[str, Any]:
    """Train as ``config`` says and return what ``result.json`` holds; see :func:`run_in_folder`."""
    return run_in_folder(config, build)[0]


def run_in_folder(config: RunConfig, build: BuildAgent) -> tuple[dict[str, Any], Path | None]:
    """Train as ``config`` says.

    With ``resume``, a run that has finished is not trained again: its result is returned. With more
    updates than it was trained for, it goes on with the rest of them.

    Returns:
        What ``result.json`` holds (see ``result_of``), and the run's folder; None where nothing is
        written.

    Raises:
        ConfigError, TransitionError, CheckpointError: of what it was given.
        DivergedError: a metric or a weight is not finite; no checkpoint is written of that.
    """
    if config.resume and config.checkpoints_path is None:
        raise ConfigError("--resume needs --checkpoints_path, to know what to continue")
    require_services(config)
    device = _device(config.device)
    say_what_waits(device, config.compile, "--compile")
    config = dataclasses.replace(config, precision=settled(config.precision, device))
    folder = NumberedFolder.find(config) if config.resume else None
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.callback(folder.lock.release)
            finished = folder.result() if folder.lengthened() is None else None
            if finished is not None:
                return finished, folder.path
        if config.deterministic:
            use_deterministic_kernels()
        use_backend(config.backend)
        stack.enter_context(cpu_threads(config.threads))
        if folder is not None or config.checkpoints_path is None:
            prepared = prepare(config, build, folder)
            if folder is not None:
                folder.claim(resume=True)
        else:
            folder = NumberedFolder.create(config)
            stack.callback(folder.lock.release)
            try:
                prepared = prepare(config, build, folder)
            except Exception:
                folder.remove()  # nothing that could be resumed
                raise
        training, evaluations, env_id = prepared
        with naming_last_checkpoint(folder.path if folder else None, PREFIX), evaluations:
            training.run()
        result = result_of(config, env_id, training.evaluations, training.seconds)
        if folder:
            folder.finish(result)
    return result, folder.path if folder else None


def prepare(config: RunConfig, build: BuildAgent, folder: RunFolder | None) -> Prepared:
    """Everything that a run needs, at the newest checkpoint of ``folder`` where it has one."""
    device = _device(config.device)
    dataset = _fitting(_load(config), config)
    env_id = _env_of(config, dataset)
    dims = Dims(dataset.observation_dim, dataset.action_dim)
    arguments = _env_arguments(config, dataset)
    evaluator = _open_evaluator(config, env_id, dims, arguments)
    dataset = with_action_bounds(
        dataset, env_id=env_id, low=config.action_low, high=config.action_high
    )
    states = StateNormalizer.of(dataset) if config.normalize else None
    rewards = None
    if config.normalize_reward:
        own_env = str(dataset.metadata.get("env_id") or env_id)  # not that of evaluation
        rewards = RewardNormalizer.of(dataset, own_env, time_limit(own_env))
    agent = build(config, dims, generators_for(config.seeds, "init"), device)
    source = prepare_replay_buffer(
        dataset,
        config.diffusion,
        batch_size=config.batch_size,
        seeds=config.seeds,
        device=device,
        state_normalizer=states,
        reward_normalizer=rewards,
        max_action=config.max_action,
        cache=folder.path / "generated_rows.pt" if folder else None,
        agent=agent,
    )

    table = Timetable(config.max_timesteps, config.log_every, config.eval_freq, config.eval_freq)
    count = -(-table.total // table.evaluate_every)
    evaluations = Evaluations(evaluator, config.eval_workers, count)
    # A worker has no GPU. Without workers too the CPU acts, so that a run's scores do not depend on
    # where it was evaluated.
    copied = evaluations.workers > 0 or device.type != "cpu"
    limit = config.max_episode_steps
    # A score is of the task as D4RL has it: returns of shorter episodes have other references.
    as_known = not arguments and (limit is None or limit == time_limit(env_id))

    def evaluate() -> Pending[Evaluation]:
        policy = StackPolicy(acting_copy(agent) if copied else agent, states, config.max_action)
        playing = evaluations.begin(policy, config.eval_seeds)
        found = functools.partial(_found, playing, env_id if as_known else None)
        return Pending(playing.ready, found)

    training = Training(
        agent,
        source,
        evaluate,
        table,
        seeds=config.seeds,
        device=device,
        config=as_dict(config),
        logs=config,
        name=config.name,
        unit="update",
        folder=folder.path if folder else None,
        data=_digests(dataset, config) if folder else None,
        keep_all=config.save_checkpoints,
        compile=config.compile,
        precision=config.precision,
    )
    if not training.resume() and config.load_model is not None:
        load_weights(agent, config.load_model)
    return Prepared(training, evaluations, env_id)


def _found(playing: Pending[Played], env_id: str | None) -> Evaluation:
    return evaluation_of(playing.result().returns, env_id)


def _digests(dataset: Transitions, config: RunConfig) -> dict[str, str]:
    digests = {"env": content_digest(dataset)}
    if config.diffusion.path is not None:
        digests["diffusion.path"] = file_digest(config.diffusion.path)
    return digests


def _device(name: str) -> torch.device:
    try:
        return resolve_device(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _load(config: RunConfig) -> Transitions:
    limit = config.max_episode_steps
    if limit is None or not config.env.endswith(HDF5_SUFFIXES):
        return load_dataset(config.env)
    return load_dataset(config.env, max_episode_steps=limit)  # where it has no time-outs


def _fitting(dataset: Transitions, config: RunConfig) -> Transitions:
    if len(dataset) > config.buffer_size:
        raise ConfigError(
            f"{config.env} has {len(dataset)} rows, buffer_size is {config.buffer_size}; raise it"
        )
    return dataset


def _env_of(config: RunConfig, dataset: Transitions) -> str:
    env_id = config.eval_env or dataset.metadata.get("env_id")
    if not env_id:
        raise ConfigError(
            f"{config.env} does not say which environment it comes from; name one with --eval_env"
        )
    return str(env_id)


def _env_arguments(config: RunConfig, dataset: Transitions) -> dict[str, Any]:
    """Arguments of the environment of evaluation: those that are given, else the data's own."""
    if config.env_kwargs is None and config.eval_env is None:
        return dict(dataset.metadata.get("env_kwargs") or {})
    return keywords(config.env_kwargs, "env_kwargs")


def _open_evaluator(
    config: RunConfig, env_id: str, dims: Dims, arguments: Mapping[str, Any]
) -> Evaluator:
    limit = config.max_episode_steps
    try:
        evaluator = Evaluator(
            env_id, config.n_episodes, config.num_seeds, max_episode_steps=limit, **arguments
        )
    except TypeError as error:  # actions or observations of another kind
        raise ConfigError(f"the environment {env_id}: {error}") from error
    if (evaluator.observation_dim, evaluator.action_dim) != dims:
        raise ConfigError(
            f"the environment {env_id} has {evaluator.observation_dim} observation and "
            f"{evaluator.action_dim} action columns, the data set {config.env} has "
            f"{dims.state} and {dims.action}; choose another with --eval_env"
        )
    return evaluator

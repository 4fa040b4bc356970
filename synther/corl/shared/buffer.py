"""The batches of an offline run come from a data set, from saved samples, or from a model.

Whatever the source, the rows are normalised once, by statistics of the real data set, and an agent
gets a ``Batch`` ``[seeds, B, ...]`` whose rewards and dones keep their last axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from synther.action_bounds import ActionBounds
from synther.corl.shared.config import DiffusionConfig
from synther.corl.shared.normalizers import (
    ActionNormalizer,
    RewardNormalizer,
    StateNormalizer,
    row_function,
)
from synther.corl.shared.refreshed import MemberPolicy, RefreshedRows
from synther.datasets.digest import file_digest, require_same_digests
from synther.envs.names import other_environment
from synther.files import checkpoint
from synther.learning.learner import Agent
from synther.learning.replay import RowBuffer
from synther.learning.sources import (
    BatchSource,
    DiffusionGenerator,
    GenerateRows,
    MixedSource,
    ReplayBuffer,
    RowFunction,
    RowSource,
    rows_of_share,
)
from synther.learning.streams import Purpose, generators_for
from synther.runs.loggers import progress_bar
from synther.runs.settings import ConfigError
from synther.transitions import TransitionError, TransitionLayout, Transitions

__all__ = [
    "BatchSource",
    "DiffusionConfig",
    "DiffusionGenerator",
    "ReplayBuffer",
    "RewardNormalizer",
    "StateNormalizer",
    "prepare_replay_buffer",
]


def prepare_replay_buffer(
    dataset: Transitions,
    diffusion: DiffusionConfig,
    *,
    batch_size: int,
    seeds: Sequence[int] = (0,),
    device: torch.device | str = "cpu",
    state_normalizer: StateNormalizer | None = None,
    reward_normalizer: RewardNormalizer | None = None,
    max_action: float = 1.0,
    cache: Path | None = None,
    agent: Agent | None = None,
) -> RowSource:
    """The source that ``diffusion`` asks for.

    Args:
        dataset: the real data, which says how wide a row is, in which units actions are, and of
            which environment. Samples that say nothing of this are taken for the same.
        diffusion: no path: the data set; an ``.npz``: its first ``sample_limit`` rows in place of
            the data set; a ``.pt``: rows of that model, generated on the fly, or where
            ``sample_limit`` is given, that many rows (of each seed) generated now and kept. With
            ``mix``, so large a share of every batch, in whole rows, is the data set's all the same.
        batch_size: rows in a batch, for each seed.
        seeds: of the agents; each has its own batches.
        device: where rows are held and batches appear.
        state_normalizer, reward_normalizer: applied to the rows once, whichever the source.
        max_action: actions of the batches lie in ``[-max_action, max_action]``, where the bounds of
            those of the rows are known (:func:`synther.datasets.with_action_bounds`).
        cache: a file that keeps generated rows for a run that is continued.
        agent: that learns from the batches, a member a seed, whom rows are guided to with
            ``refresh``.

    Raises:
        TransitionError: samples of other columns than the data set's, or of another environment.
        CheckpointError: not a diffusion model, or one of other columns.
        ConfigError: no such file.
    """
    if diffusion.refresh and agent is None:
        raise ConfigError(
            f"diffusion.refresh is {diffusion.refresh}, and there is no agent that rows could be "
            "guided to: give one, or leave the refresh out"
        )
    layout = TransitionLayout.of(dataset)
    real = rows_of_share(diffusion.mix, batch_size, "diffusion.mix")

    def acting(said: ActionBounds | None) -> ActionNormalizer | None:
        """For rows that say these bounds of themselves; without, they are as the data set's."""
        return ActionNormalizer.of(said or dataset.action_bounds, max_action)

    def normalising(actions: ActionNormalizer | None) -> RowFunction:
        return row_function(layout, state_normalizer, reward_normalizer, actions)

    def stored(rows: Transitions, count: int, purpose: Purpose) -> ReplayBuffer:
        packed = torch.from_numpy(layout.pack(rows)).to(device)
        buffer = RowBuffer.holding(layout, normalising(acting(rows.action_bounds))(packed))
        return ReplayBuffer(buffer, count, generators_for(seeds, purpose, device))

    if diffusion.path is None or real == batch_size:
        return stored(dataset, batch_size, "data")
    if diffusion.path.endswith(".npz"):
        samples = _samples(diffusion, layout)
        _require_same_environment(samples.metadata.get("env_id"), dataset, diffusion)
        synthetic: RowSource = stored(samples, batch_size - real, "data")
    else:
        # Not at the top: agents that train on files need neither the model's code nor gin.
        from synther.diffusion.generation.on_the_fly import rows_of_model

        generate = rows_of_model(
            diffusion.path,
            layout,
            device,
            num_steps=diffusion.num_steps,
            sampler=diffusion.sampler,
            consistency=diffusion.consistency,
            kept=diffusion.sample_limit is not None,
            refreshed=bool(diffusion.refresh),
        )
        learnt = getattr(generate, "trained_on", None)
        known = learnt.metadata() if learnt else {}
        _require_same_environment(known.get("env_id"), dataset, diffusion)
        actions = acting(ActionBounds.stated(known, layout.action_dim))
        normalise, count = normalising(actions), batch_size - real
        if diffusion.refresh and agent is not None:
            policies = [
                MemberPolicy(agent, member, len(seeds), state_normalizer, actions)
                for member in range(len(seeds))
            ]
            synthetic = RefreshedRows(
                generate, normalise, layout, count, diffusion,
                seeds=seeds, policies=policies, device=device,
            )  # fmt: skip
        else:
            synthetic = _of_model(
                generate, diffusion, layout, normalise, count, seeds, device, cache
            )
    return MixedSource([stored(dataset, real, "mix"), synthetic]) if real else synthetic


def _of_model(
    generate: GenerateRows,
    diffusion: DiffusionConfig,
    layout: TransitionLayout,
    normalise: RowFunction,
    batch_size: int,
    seeds: Sequence[int],
    device: torch.device | str,
    cache: Path | None,
) -> ReplayBuffer | DiffusionGenerator:
    """Rows of a model: generated when needed, or so many kept."""
    noise = generators_for(seeds, "synthetic", device)
    if diffusion.sample_limit is None:
        return DiffusionGenerator(
            generate, normalise, layout, batch_size, noise, diffusion.batch_parallelism
        )
    chunk = batch_size * diffusion.batch_parallelism
    assert diffusion.path is not None
    kept = _kept_rows(diffusion.path, generate, diffusion.sample_limit, noise, chunk, cache)
    pools = rearrange(normalise(kept.to(device)), "seeds rows columns -> (seeds rows) columns")
    buffer = RowBuffer.holding(layout, pools)
    order = generators_for(seeds, "data", device)
    return ReplayBuffer(buffer, batch_size, order, pools=len(seeds))


def _require_same_environment(
    env_id: Any, dataset: Transitions, diffusion: DiffusionConfig
) -> None:
    """Raise a TransitionError where samples are known to be of another environment than the data
    set, and nobody has said that this is meant."""
    found = other_environment(env_id and str(env_id), dataset.metadata.get("env_id"))
    if found and not diffusion.any_environment:
        raise TransitionError(
            f"{diffusion.path}: {found} ({dataset.source}); "
            "--diffusion.any_environment true takes them all the same"
        )


def _samples(diffusion: DiffusionConfig, layout: TransitionLayout) -> Transitions:
    assert diffusion.path is not None
    try:
        samples = Transitions.load(diffusion.path)
    except FileNotFoundError as error:
        raise ConfigError(f"diffusion.path: {error}") from None
    found = (samples.observation_dim, samples.action_dim)
    if found != (layout.observation_dim, layout.action_dim):
        raise TransitionError(
            f"{diffusion.path}: {found[0]} observation and {found[1]} action columns, the data set "
            f"has {layout.observation_dim} and {layout.action_dim}: samples of another environment"
        )
    limit = diffusion.sample_limit
    if limit is not None and limit > len(samples):
        raise ConfigError(
            f"diffusion.sample_limit is {limit}, {diffusion.path} has {len(samples)} rows"
        )
    return samples if limit is None else samples.subset(slice(limit))


def _kept_rows(
    model: str,
    generate: GenerateRows,
    limit: int,
    generators: Sequence[torch.Generator],
    chunk: int,
    cache: Path | None,
) -> Tensor:
    """Rows ``[seeds, limit, row_dim]`` of ``model``, from the cache where it is there.

    Raises:
        CheckpointError: the cached rows are another model's.
    """
    data = {} if cache is None else {"diffusion.path": file_digest(model)}
    if cache is not None and cache.is_file():
        kept = checkpoint.load(cache)
        # There may be no checkpoint yet, which would know the model too.
        require_same_digests(kept.get("data", {}), data)
        return kept["rows"]
    members = []
    with progress_bar(limit * len(generators), "generating", unit="row") as bar:
        for generator in generators:
            parts = []
            for start in range(0, limit, chunk):
                parts.append(generate(min(chunk, limit - start), generator))
                bar.update(len(parts[-1]))
            members.append(torch.cat(parts))
    rows = torch.stack(members)
    if cache is not None:
        checkpoint.save(cache, {"rows": rows, "data": data})
    return rows

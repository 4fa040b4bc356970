"""The batches of an offline run come from a data set, from saved samples, or from a model.

Whatever the source, the rows are normalised once, by statistics of the real data set, and an agent
gets a ``Batch`` ``[seeds, B, ...]`` whose rewards and dones keep their last axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from synther.corl.shared.config import DiffusionConfig
from synther.corl.shared.normalizers import RewardNormalizer, StateNormalizer, row_function
from synther.files import checkpoint
from synther.learning.replay import RowBuffer
from synther.learning.sources import (
    BatchSource,
    DiffusionGenerator,
    GenerateRows,
    MixedSource,
    ReplayBuffer,
    RowFunction,
    RowSource,
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
    cache: Path | None = None,
) -> RowSource:
    """The source that ``diffusion`` asks for.

    Args:
        dataset: the real data, which says how wide a row is.
        diffusion: no path: the data set; an ``.npz``: its first ``sample_limit`` rows in place of
            the data set; a ``.pt``: rows of that model, generated on the fly, or where
            ``sample_limit`` is given, that many rows (of each seed) generated now and kept. With
            ``mix``, so large a share of every batch, in whole rows, is the data set's all the same.
        batch_size: rows in a batch, for each seed.
        seeds: of the agents; each has its own batches.
        device: where rows are held and batches appear.
        state_normalizer, reward_normalizer: applied to the rows once, whichever the source.
        cache: a file that keeps generated rows for a run that is continued.

    Raises:
        TransitionError: samples of other columns than the data set's.
        CheckpointError: not a diffusion model, or one of other columns.
        ConfigError: no such file.
    """
    layout = TransitionLayout.of(dataset)
    normalise = row_function(layout, state_normalizer, reward_normalizer)
    real = round(diffusion.mix * batch_size)

    def stored(rows: Transitions, count: int, purpose: Purpose) -> ReplayBuffer:
        buffer = RowBuffer.holding(
            layout, normalise(torch.from_numpy(layout.pack(rows)).to(device))
        )
        return ReplayBuffer(buffer, count, generators_for(seeds, purpose, device))

    if diffusion.path is None or real == batch_size:
        return stored(dataset, batch_size, "data")
    if diffusion.path.endswith(".npz"):
        synthetic: RowSource = stored(_samples(diffusion, layout), batch_size - real, "data")
    else:
        synthetic = _of_model(diffusion, layout, normalise, batch_size - real, seeds, device, cache)
    return MixedSource([stored(dataset, real, "mix"), synthetic]) if real else synthetic


def _of_model(
    diffusion: DiffusionConfig,
    layout: TransitionLayout,
    normalise: RowFunction,
    batch_size: int,
    seeds: Sequence[int],
    device: torch.device | str,
    cache: Path | None,
) -> ReplayBuffer | DiffusionGenerator:
    """Rows of a model: generated when needed, or so many kept."""
    assert diffusion.path is not None
    # Not at the top: agents that train on files need neither the model's code nor gin.
    from synther.diffusion.generation.on_the_fly import rows_of_model

    generate = rows_of_model(
        diffusion.path,
        layout,
        device,
        num_steps=diffusion.num_steps,
        sampler=diffusion.sampler,
        consistency=diffusion.consistency,
    )
    noise = generators_for(seeds, "synthetic", device)
    if diffusion.sample_limit is None:
        return DiffusionGenerator(
            generate, normalise, layout, batch_size, noise, diffusion.batch_parallelism
        )
    chunk = batch_size * diffusion.batch_parallelism
    kept = _kept_rows(generate, diffusion.sample_limit, noise, chunk, cache)
    pools = rearrange(normalise(kept.to(device)), "seeds rows columns -> (seeds rows) columns")
    buffer = RowBuffer.holding(layout, pools)
    order = generators_for(seeds, "data", device)
    return ReplayBuffer(buffer, batch_size, order, pools=len(seeds))


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
    generate: GenerateRows,
    limit: int,
    generators: Sequence[torch.Generator],
    chunk: int,
    cache: Path | None,
) -> Tensor:
    """Rows ``[seeds, limit, row_dim]``, from the cache where it is there."""
    if cache is not None and cache.is_file():
        return checkpoint.load(cache)["rows"]
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
        checkpoint.save(cache, {"rows": rows})
    return rows

"""The three sources: the same rows, the same shapes, whichever they come from."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from synther.corl.shared.buffer import (
    DiffusionConfig,
    DiffusionGenerator,
    ReplayBuffer,
    RewardNormalizer,
    StateNormalizer,
    prepare_replay_buffer,
)
from synther.diffusion.generation import on_the_fly
from synther.diffusion.provenance import TRAINED_ON, Provenance
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning.replay import Batch
from synther.learning.sources import BatchSource
from synther.runs.settings import ConfigError
from synther.transitions import TransitionError, TransitionLayout, Transitions
from tests.corl.helpers import DIMS, write_model
from tests.data import random_transitions

pytestmark = pytest.mark.arithmetic

LAYOUT = TransitionLayout(3, 2)
DATA = random_transitions(rows=120)
SAMPLES = random_transitions(rows=90, seed=1)


def recorded_model(monkeypatch: pytest.MonkeyPatch, rows: Transitions) -> list[int]:
    """Let every model give ``rows``, over and over; returns the counts that were asked for."""
    packed = torch.from_numpy(LAYOUT.pack(rows))
    asked: list[int] = []
    given = {"rows": 0}

    def generate(count: int, generator: torch.Generator) -> torch.Tensor:
        start = given["rows"]
        given["rows"] += count
        asked.append(count)
        return packed[torch.arange(start, start + count) % len(packed)].clone()

    monkeypatch.setattr(on_the_fly, "rows_of_model", lambda *_, **__: generate)
    return asked


def source_of(diffusion: DiffusionConfig, seeds: list[int], **options: object) -> BatchSource:
    return prepare_replay_buffer(
        DATA,
        diffusion,
        batch_size=10,
        seeds=seeds,
        state_normalizer=StateNormalizer.of(DATA),
        reward_normalizer=RewardNormalizer(0.5, 3.0),
        **options,  # type: ignore[arg-type]
    )


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("path", [None, "samples.npz", "model.pt"])
def test_shapes_and_normalisation(
    path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_model(monkeypatch, SAMPLES)
    SAMPLES.save(tmp_path / "samples.npz")
    source = source_of(DiffusionConfig(path and str(tmp_path / path)), [0, 1, 2])
    batch = source.sample()
    widths = [DIMS.state, DIMS.action, 1, DIMS.state, 1]
    assert [tuple(each.shape) for each in batch] == [(3, 10, width) for width in widths]
    rows = DATA if path is None else SAMPLES
    mean, std = DATA.observations.mean(0), DATA.observations.std(0) + 1e-3  # of the real data
    for seed in range(3):
        for number in range(10):
            action = batch.actions[seed, number].numpy()
            (found,) = np.flatnonzero((rows.actions == action).all(axis=1))
            np.testing.assert_allclose(
                batch.states[seed, number], (rows.observations[found] - mean) / std, rtol=2e-5,
                atol=1e-6,
            )  # fmt: skip
            np.testing.assert_allclose(
                batch.next_states[seed, number],
                (rows.next_observations[found] - mean) / std,
                rtol=2e-5,
                atol=1e-6,
            )
            reward = (rows.rewards[found] - 0.5) * 3.0
            assert batch.rewards[seed, number, 0].item() == pytest.approx(reward, rel=1e-5)
            assert batch.dones[seed, number, 0].item() == rows.terminals[found]


def test_on_the_fly_a_hundred_batches_are_made_at_a_time_and_each_row_is_used_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = recorded_model(monkeypatch, random_transitions(rows=5000))
    source = source_of(DiffusionConfig("model.pt"), [0, 1])
    assert isinstance(source, DiffusionGenerator)
    seen = torch.cat([source.sample().actions for _ in range(100)], dim=1)
    assert asked == [1000, 1000]
    assert len(seen.flatten(0, 1).unique(dim=0)) == 2000
    source.sample()
    assert len(asked) == 4


def test_rows_that_follow_an_agent_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded_model(monkeypatch, SAMPLES)
    with pytest.raises(ConfigError, match="refresh is 5, and there is no agent that rows could be"):
        source_of(DiffusionConfig("model.pt", refresh=5), [0])


def test_a_sample_limit_keeps_the_first_rows_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recorded_model(monkeypatch, SAMPLES)
    SAMPLES.save(tmp_path / "samples.npz")
    for path in ("model.pt", "samples.npz"):
        source = source_of(DiffusionConfig(str(tmp_path / path), sample_limit=30), [0])
        assert isinstance(source, ReplayBuffer)
        assert len(source) == 30
        seen = torch.cat([source.sample().actions[0] for _ in range(60)]).unique(dim=0)
        expected = torch.from_numpy(SAMPLES.actions[:30]).unique(dim=0)
        assert torch.equal(seen, expected)
    assert asked == [30]


def test_kept_rows_are_each_seeds_own_and_come_from_the_cache_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recorded_model(monkeypatch, SAMPLES)
    (tmp_path / "model.pt").write_bytes(b"one")
    limited = DiffusionConfig(str(tmp_path / "model.pt"), sample_limit=20)
    cache = tmp_path / "rows.pt"
    source = source_of(limited, [0, 1], cache=cache)
    first = source.sample()
    seen = torch.cat([source.sample().actions for _ in range(60)], dim=1)
    for seed in range(2):
        own = torch.from_numpy(SAMPLES.actions[20 * seed : 20 * seed + 20]).unique(dim=0)
        assert torch.equal(seen[seed].unique(dim=0), own)
    again = source_of(limited, [0, 1], cache=cache)
    assert asked == [20, 20]
    assert equal(again.sample(), first)


def test_kept_rows_of_another_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was cut off before its first checkpoint knows its model by these rows alone."""
    recorded_model(monkeypatch, SAMPLES)
    model, cache = tmp_path / "model.pt", tmp_path / "rows.pt"
    model.write_bytes(b"one")
    limited = DiffusionConfig(str(model), sample_limit=20)
    first = source_of(limited, [0], cache=cache).sample()
    model.write_bytes(b"another")
    with pytest.raises(CheckpointError, match=r"data of diffusion\.path have changed"):
        source_of(limited, [0], cache=cache)
    kept = checkpoint.load(cache)
    checkpoint.save(cache, {"rows": kept["rows"]})  # as earlier versions wrote it
    assert equal(source_of(limited, [0], cache=cache).sample(), first)


@pytest.mark.parametrize("path", [None, "model.pt"])
def test_each_seed_has_its_own_batches_whoever_trains_beside_it(
    path: str | None, tmp_path: Path
) -> None:
    if path:
        path = str(write_model(tmp_path / path, LAYOUT))
    diffusion = DiffusionConfig(path, num_steps=2, batch_parallelism=2)
    together, alone = source_of(diffusion, [3, 8]), source_of(diffusion, [8])
    for _ in range(5):
        ours, theirs = together.sample(), alone.sample()
        assert equal(Batch(*(each[1:] for each in ours)), theirs)
        assert not torch.equal(ours.states[0], ours.states[1])


@pytest.mark.parametrize("terminals", [True, False])
def test_a_model_is_found_to_fit_with_terminals_or_without(tmp_path: Path, terminals: bool) -> None:
    path = write_model(tmp_path / "model.pt", TransitionLayout(3, 2, terminals))
    batch = source_of(DiffusionConfig(str(path), num_steps=2), [0]).sample()
    assert set(batch.dones.unique().tolist()) <= ({0.0, 1.0} if terminals else {0.0})
    assert batch.actions.abs().max() <= 1


@pytest.mark.parametrize("path", [None, "model.pt"])
def test_a_saved_source_goes_on_where_it_stood(path: str | None, tmp_path: Path) -> None:
    if path:
        path = str(write_model(tmp_path / path, LAYOUT))
    diffusion = DiffusionConfig(path, num_steps=2, batch_parallelism=3)
    original = source_of(diffusion, [0, 1])
    for _ in range(4):  # into the second pool of generated rows
        original.sample()
    copy = source_of(diffusion, [0, 1])
    copy.load_state_dict(original.state_dict())
    for _ in range(5):
        assert equal(copy.sample(), original.sample())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    other = random_transitions(rows=30, observation_dim=4)
    other.save(tmp_path / "other.npz")
    with pytest.raises(TransitionError, match="4 observation and 2 action columns, the data set"):
        source_of(DiffusionConfig(str(tmp_path / "other.npz")), [0])
    model = write_model(tmp_path / "model.pt", TransitionLayout(4, 2))
    with pytest.raises(CheckpointError, match="expected 10 columns: 3 observation and 2 action"):
        source_of(DiffusionConfig(str(model)), [0])
    SAMPLES.save(tmp_path / "samples.npz")
    with pytest.raises(ConfigError, match=r"sample_limit is 91, .* has 90 rows"):
        source_of(DiffusionConfig(str(tmp_path / "samples.npz"), sample_limit=91), [0])
    with pytest.raises(ConfigError, match=r"nothing\.npz: no such file"):
        source_of(DiffusionConfig(str(tmp_path / "nothing.npz")), [0])


def returns_one_by_one(rewards: np.ndarray, ends: np.ndarray) -> list[float]:
    returns, total = [], 0.0
    for reward, end in zip(rewards, ends, strict=True):
        total += float(reward)
        if end:
            returns.append(total)
            total = 0.0
    return returns


def in_order(data: Transitions, ends: np.ndarray) -> Transitions:
    """The same rows, each continued by the next one where ``ends`` does not say otherwise."""
    after = data.next_observations.copy()
    goes_on = np.flatnonzero(~ends[:-1] & (data.terminals[:-1] == 0))
    after[goes_on] = data.observations[goes_on + 1]
    return dataclasses.replace(data, next_observations=after)


@pytest.mark.filterwarnings("ignore:.*rows break off")  # of no length that a limit explains
@pytest.mark.parametrize("limit", [7, 20, 1000])
def test_rewards_are_normalised_by_the_returns_of_the_data_s_own_episodes(limit: int) -> None:
    ends = (np.arange(120) % limit == limit - 1) | (DATA.terminals > 0)
    data = in_order(DATA, ends)
    expected = returns_one_by_one(DATA.rewards, ends)
    normalizer = RewardNormalizer.of(data, "hopper-medium-v2", limit)
    scale = 1000 / (max(expected) - min(expected))
    assert normalizer.scale == pytest.approx(scale, rel=1e-5)
    torch.testing.assert_close(
        normalizer(torch.tensor([2.0])), torch.tensor([2.0 * scale]), rtol=1e-5, atol=0
    )


def test_reward_normalisers() -> None:
    flags = dataclasses.replace(DATA, rewards=(DATA.rewards > 0).astype(np.float32))
    assert RewardNormalizer.of(flags, "antmaze-umaze-v2")(torch.tensor([1.0])).item() == 0.0
    less = dataclasses.replace(flags, rewards=flags.rewards - 1)  # as OGBench has them
    normalizer = RewardNormalizer.of(less, "antmaze-large-navigate-singletask-v0")
    assert normalizer(torch.tensor([-1.0, 0.0])).tolist() == [-1.0, 0.0]
    data = in_order(DATA, np.zeros(120, bool))
    with pytest.raises(TransitionError, match="1 whole episodes whose returns do not differ"):
        RewardNormalizer.of(data.subset(slice(0, int(np.argmax(DATA.terminals)) + 1)), "hopper")


def test_rows_whose_episodes_are_unknown_are_not_normalised_by_them() -> None:
    with pytest.raises(TransitionError, match=r"break off.*use --normalize_reward false"):
        RewardNormalizer.of(DATA, "hopper-medium-v2")
    stated = dataclasses.replace(DATA, metadata={"return_range": [-10.0, 30.0]})
    assert RewardNormalizer.of(stated, "hopper-medium-v2").scale == 25.0


@pytest.mark.parametrize("path", ["samples.npz", "model.pt"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_every_batch_is_the_data_set_s(
    path: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly so many rows, the real ones first; all of both are drawn, and uniformly."""
    recorded_model(monkeypatch, SAMPLES)
    SAMPLES.save(tmp_path / "samples.npz")
    source = source_of(DiffusionConfig(str(tmp_path / path), mix=share), [0, 1])
    real, seen = round(10 * share), []
    for _ in range(300):
        batch = source.sample()
        assert batch.states.shape == (2, 10, 3)
        seen.append(batch.actions)
    actions = torch.stack(seen)  # [300, 2, 10, 2]
    for part, rows in ((actions[:, :, :real], DATA), (actions[:, :, real:], SAMPLES)):
        if part.numel():
            found, counts = part.flatten(0, 2).unique(dim=0, return_counts=True)
            assert torch.equal(found, torch.from_numpy(rows.actions).unique(dim=0))
            mean = part[..., 0].numel() / len(rows)
            assert float((counts - mean).abs().max()) < 6 * mean**0.5
    if share == 0:
        plain = source_of(DiffusionConfig(str(tmp_path / "samples.npz")), [0, 1])
        again = source_of(DiffusionConfig(str(tmp_path / "samples.npz"), mix=0.0), [0, 1])
        assert equal(plain.sample(), again.sample())


def test_a_mixed_source_goes_on_and_no_seed_minds_the_others(tmp_path: Path) -> None:
    SAMPLES.save(tmp_path / "samples.npz")
    diffusion = DiffusionConfig(str(tmp_path / "samples.npz"), mix=0.5)
    together, alone = source_of(diffusion, [3, 8]), source_of(diffusion, [8])
    for _ in range(3):
        batch = together.sample()
        assert equal(Batch(*(each[1:] for each in batch)), alone.sample())
    resumed = source_of(diffusion, [3, 8])
    resumed.load_state_dict(together.state_dict())
    assert equal(resumed.sample(), together.sample())


def test_what_cannot_be_mixed() -> None:
    with pytest.raises(ConfigError, match=r"diffusion\.mix is 1\.5, expected from 0 to 1"):
        DiffusionConfig("samples.npz", mix=1.5)
    with pytest.raises(ConfigError, match=r"no synthetic rows to mix with"):
        DiffusionConfig(mix=0.5)


LOW, HIGH = [-2.0, 0.0], [2.0, 10.0]


def in_own_units(data: Transitions, **metadata: object) -> Transitions:
    """The rows with actions from -2 to 2 and from 0 to 10, which their metadata say."""
    actions = data.actions * [2, 5] + [0, 5]
    bounds = {"action_low": LOW, "action_high": HIGH}
    return dataclasses.replace(data, actions=actions, metadata={**bounds, **metadata})


def batch_of(data: Transitions, path: Path | None = None, **options: object) -> Batch:
    diffusion = DiffusionConfig(path and str(path))
    return prepare_replay_buffer(data, diffusion, batch_size=50, **options).sample()  # type: ignore


def test_agents_get_actions_that_were_mapped_from_their_bounds(tmp_path: Path) -> None:
    expected = batch_of(DATA)
    own = in_own_units(DATA)
    assert torch.equal(batch_of(own).states, expected.states)
    torch.testing.assert_close(batch_of(own).actions, expected.actions, rtol=1e-5, atol=1e-6)
    wider = batch_of(own, max_action=3.0)
    torch.testing.assert_close(wider.actions, 3 * expected.actions, rtol=1e-5, atol=1e-6)
    unit = dataclasses.replace(DATA, metadata={"action_low": -1, "action_high": 1})
    assert torch.equal(batch_of(unit).actions, expected.actions)  # bit for bit
    # Samples say their own units, and without a word have those of the data set.
    expected = batch_of(DATA, SAMPLES.save(tmp_path / "unit.npz"))
    scaled = dataclasses.replace(SAMPLES, metadata=unit.metadata).save(tmp_path / "scaled.npz")
    assert torch.equal(batch_of(own, scaled).actions, expected.actions)
    silent = dataclasses.replace(in_own_units(SAMPLES), metadata={}).save(tmp_path / "silent.npz")
    for path in (silent, in_own_units(SAMPLES).save(tmp_path / "own.npz")):
        found = batch_of(own, path)
        torch.testing.assert_close(found.actions, expected.actions, rtol=1e-5, atol=1e-6)


def test_a_models_rows_keep_to_its_bounds_and_are_mapped_from_them(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model-0.pt", LAYOUT)
    learnt = Provenance.of(in_own_units(DATA))
    checkpoint.save(path, {**checkpoint.load(path), TRAINED_ON: learnt.to_plain()})
    rows = on_the_fly.rows_of_model(path, LAYOUT, "cpu", num_steps=2)
    drawn = rows(200, torch.Generator().manual_seed(0))[:, LAYOUT.columns["actions"]]
    assert (drawn >= torch.tensor(LOW)).all()
    assert (drawn <= torch.tensor(HIGH)).all()
    assert drawn.max() > 1
    diffusion = DiffusionConfig(str(path), num_steps=2, batch_parallelism=1)
    for data in (DATA, in_own_units(DATA)):
        batch = prepare_replay_buffer(data, diffusion, batch_size=50).sample()
        assert batch.actions.abs().max() <= 1 + 1e-6


def other_environment(kind: str, folder: Path) -> Path:
    samples = dataclasses.replace(SAMPLES, metadata={"env_id": "walker2d-medium-v2"})
    if kind == "samples.npz":
        return samples.save(folder / kind)
    path = write_model(folder / kind, LAYOUT)
    learnt = Provenance.of(samples).to_plain()
    return checkpoint.save(path, {**checkpoint.load(path), TRAINED_ON: learnt})


@pytest.mark.parametrize("kind", ["samples.npz", "model.pt"])
def test_samples_of_another_environment_are_refused_unless_asked_for(
    kind: str, tmp_path: Path
) -> None:
    path = other_environment(kind, tmp_path)
    data = dataclasses.replace(DATA, metadata={"env_id": "HalfCheetah-v2"})
    with pytest.raises(TransitionError, match=r"Walker2d-v2, and the data are of HalfCheetah-v2"):
        batch_of(data, path)
    asked = DiffusionConfig(str(path), any_environment=True, num_steps=2, batch_parallelism=1)
    assert prepare_replay_buffer(data, asked, batch_size=10).sample()
    same = dataclasses.replace(DATA, metadata={"env_id": "walker2d-random-v2"})
    unknown = dataclasses.replace(DATA, metadata={})
    for other in (same, unknown):
        fine = DiffusionConfig(str(path), num_steps=2, batch_parallelism=1)
        assert prepare_replay_buffer(other, fine, batch_size=10).sample()


@pytest.mark.parametrize("share", [0.04, 0.97])
def test_a_share_that_no_batch_has_is_refused(share: float, tmp_path: Path) -> None:
    """Of 10 rows, they would be none and all: it would be called mixed, and be something else."""
    SAMPLES.save(tmp_path / "samples.npz")
    with pytest.raises(ConfigError, match=r"diffusion\.mix is .*; give a share from 0\.1 to 0\.9"):
        source_of(DiffusionConfig(str(tmp_path / "samples.npz"), mix=share), [0])

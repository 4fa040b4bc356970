"""Rows generated on the fly: with which sampler, when, and at what cost."""

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from synther.corl.shared.buffer import prepare_replay_buffer
from synther.corl.shared.config import DiffusionConfig
from synther.learning.replay import Batch, RowBuffer
from synther.learning.sources import (
    LEAD,
    DiffusionGenerator,
    GenerateRows,
    MixedSource,
    ReplayBuffer,
)
from synther.learning.streams import generators_for
from synther.runs.settings import ConfigError
from synther.transitions import TransitionLayout
from tests.corl.helpers import write_model
from tests.data import random_transitions
from tests.devices import DEVICE

pytestmark = pytest.mark.any_device
LAYOUT = TransitionLayout(3, 2)
DATA = random_transitions(rows=120)


def random_rows(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, LAYOUT.row_dim, generator=generator, device=generator.device)


def source(
    ahead: bool, generate: GenerateRows = random_rows, seeds: tuple[int, ...] = (0, 1)
) -> DiffusionGenerator:
    noise = generators_for(seeds, "synthetic", DEVICE)
    return DiffusionGenerator(generate, lambda rows: rows, LAYOUT, 5, noise, 30, ahead)


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_rows_generated_ahead_are_those_generated_when_needed() -> None:
    ahead, plain = source(True), source(False)
    assert all(equal(ahead.sample(), plain.sample()) for _ in range(100))


def test_the_next_pool_is_begun_while_this_one_is_used_but_not_at_once() -> None:
    asked: list[int] = []

    def counting(count: int, generator: torch.Generator) -> Tensor:
        asked.append(count)
        return random_rows(count, generator)

    generator = source(True, counting, seeds=(0,))
    for _ in range(LEAD - 1):
        generator.sample()
    assert len(asked) == 1
    generator.sample()
    assert generator._coming is not None
    generator._coming.result()
    assert len(asked) == 2
    for _ in range(9):  # to the end of the first pool
        generator.sample()
    assert len(asked) == 2


@pytest.mark.parametrize("batches", [3, LEAD + 2, 30, 44])
def test_a_source_that_works_ahead_goes_on_where_it_stood(batches: int) -> None:
    original, copy = source(True), source(True)
    for _ in range(batches):
        original.sample()
    state = original.state_dict()
    for _ in range(LEAD + 5):  # has a pool of its own under way
        copy.sample()
    copy.load_state_dict(state)
    assert all(equal(copy.sample(), original.sample()) for _ in range(80))


def test_an_error_in_the_background_is_raised_where_rows_are_needed() -> None:
    calls: list[int] = []

    def failing(count: int, generator: torch.Generator) -> Tensor:
        calls.append(count)
        if len(calls) > 1:
            raise RuntimeError("diverged")
        return random_rows(count, generator)

    generator = source(True, failing, seeds=(0,))
    for _ in range(30):
        generator.sample()
    with pytest.raises(RuntimeError, match="diverged"):
        generator.sample()


def test_the_share_of_time_that_generation_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def slow(count: int, generator: torch.Generator) -> Tensor:
        clock[0] += 3.0
        return random_rows(count, generator)

    generator = source(False, slow, seeds=(0,))
    for _ in range(60):  # two pools of 3 seconds each
        generator.sample()
        clock[0] += 0.1  # an update
    assert generator.metrics(60 / clock[0])["generation_share"] == pytest.approx(6 / 12)
    for _ in range(30):
        generator.sample()
        clock[0] += 0.3
    assert generator.metrics(30 / 12)["generation_share"] == pytest.approx(3 / 12)
    rows = RowBuffer(LAYOUT, 10, DEVICE)
    rows.insert(torch.zeros(10, LAYOUT.row_dim))
    assert ReplayBuffer(rows, 5, generators_for([0], "data", DEVICE)).metrics(10.0) == {}


def test_the_sampler_can_be_chosen(tmp_path: Path) -> None:
    path = str(write_model(tmp_path / "model.pt", LAYOUT))

    def first(sampler: str | None, steps: int = 3) -> Batch:
        config = DiffusionConfig(path, steps, sampler=sampler)
        return prepare_replay_buffer(DATA, config, batch_size=4, seeds=[0], device=DEVICE).sample()

    assert equal(first(None), first("heun_stochastic"))
    assert not equal(first(None), first("heun_deterministic"))
    assert equal(first("fast", 3), first("fast", 9))  # a preset has its own steps
    with pytest.raises(ConfigError, match=r"diffusion.sampler: sampler 'euler': expected one of"):
        first("euler")


def test_rows_of_a_mix_come_from_each_part_in_its_share() -> None:
    parts = []
    for value, count in ((1.0, 4), (2.0, 2)):
        stored = torch.full((50, LAYOUT.row_dim), value, device=DEVICE)
        order = generators_for([0, 1], "data", DEVICE)
        parts.append(ReplayBuffer(RowBuffer.holding(LAYOUT, stored), count, order))
    batch = MixedSource(parts).sample()
    assert batch.rewards[..., 0].tolist() == [[1, 1, 1, 1, 2, 2]] * 2
    assert batch.states.shape == (2, 6, 3)


def test_a_mix_continues_where_it_stood() -> None:
    def mix() -> MixedSource:
        stored = random_rows(40, torch.Generator(DEVICE).manual_seed(1))
        order = generators_for([0, 1], "data", DEVICE)
        rows = ReplayBuffer(RowBuffer.holding(LAYOUT, stored), 3, order)
        return MixedSource([source(False), rows])

    original, copy = mix(), mix()
    for _ in range(35):
        original.sample()
    copy.load_state_dict(original.state_dict())
    assert all(equal(copy.sample(), original.sample()) for _ in range(40))
    assert copy.metrics(1.0).keys() == {"generation_share"}


def test_generated_rows_that_a_pixel_run_of_an_earlier_version_saved_continue() -> None:
    """It had one seed, whose generator and pool lay in the checkpoint without an axis of seeds."""
    original, copy = source(False, seeds=(0,)), source(False, seeds=(0,))
    for _ in range(3):
        original.sample()
    state = original.state_dict()
    (generator,) = state.pop("generators")
    copy.load_state_dict({**state, "pool": state["pool"][0], "generator": generator})
    assert all(equal(copy.sample(), original.sample()) for _ in range(40))

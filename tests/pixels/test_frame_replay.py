"""Stacks of pictures and n-step windows, against loops over the steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synther.pixels.frame_replay import FrameReplay, stacked, windows_of
from synther.transitions import TransitionError
from tests.pixels.helpers import columns, episodes


def test_a_stack_never_reaches_across_an_episodes_start(tmp_path: Path) -> None:
    arrays = columns((4, 3))
    data, pictures = episodes(tmp_path, arrays), arrays["observation"]
    stacks = stacked(data, np.arange(7), 3)
    expected = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [4, 4, 4], [4, 4, 5], [4, 5, 6]]
    for stack, rows in zip(stacks, expected, strict=True):
        assert np.array_equal(stack, np.concatenate([pictures[row] for row in rows]))


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    n_step=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_windows_are_those_of_a_loop_over_episodes(
    tmp_path: Path, lengths: list[int], n_step: int, seed: int
) -> None:
    lengths = [max(2, each) for each in lengths]  # an episode has a step or more
    arrays = columns(tuple(lengths), size=2, seed=seed)
    arrays["discount"] = np.random.default_rng(seed).integers(0, 2, sum(lengths)).astype(np.float32)
    data, expected, start = episodes(tmp_path, arrays), [], 0
    for length in lengths:
        for row in range(start, start + length):
            if row + n_step >= start + length:
                continue
            total, weight = 0.0, 1.0
            for step in range(row + 1, row + n_step + 1):
                total += weight * float(arrays["reward"][step])
                weight *= 0.9 * float(arrays["discount"][step])
            expected.append((row, total, weight, arrays["action"][row + 1]))
        start += length
    if not expected:
        with pytest.raises(TransitionError, match="no episode has"):
            windows_of(data, n_step, 0.9)
        return
    found = windows_of(data, n_step, 0.9)
    assert found.rows.tolist() == [each[0] for each in expected]
    assert found.rewards == pytest.approx([each[1] for each in expected], rel=1e-6)
    assert found.discounts == pytest.approx([each[2] for each in expected], rel=1e-6)
    assert np.array_equal(found.actions, np.stack([each[3] for each in expected]))


def replay_of(tmp_path: Path, seed: int = 0) -> FrameReplay:
    return FrameReplay(
        episodes(tmp_path, columns((12, 9))),
        frame_stack=3, n_step=3, discount=0.99, batch_size=4,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def test_batches_hold_what_belongs_together(tmp_path: Path) -> None:
    replay = replay_of(tmp_path)
    batch = replay.gather(np.array([0, 8, 9]))  # the last of the first episode, then the second's
    rows = replay.windows.rows[[0, 8, 9]]
    assert rows.tolist() == [0, 8, 12]
    assert np.array_equal(batch.images, stacked(replay.episodes, rows, 3))
    assert np.array_equal(batch.next_images, stacked(replay.episodes, rows + 3, 3))
    assert batch.images.dtype == torch.uint8
    assert (batch.actions.shape, batch.rewards.shape) == ((1, 3, 2), (1, 3, 1))


def test_the_order_goes_on_where_it_stood(tmp_path: Path) -> None:
    replay = replay_of(tmp_path)
    for _ in range(40):  # beyond a block of the stream
        replay.sample()
    state = replay.state_dict()
    expected = [replay.sample() for _ in range(40)]
    other = replay_of(tmp_path, seed=7)
    other.load_state_dict(state)
    for batch in expected:
        for found, wanted in zip(other.sample(), batch, strict=True):
            assert torch.equal(found, wanted)


def test_batches_in_order_cover_all_windows(tmp_path: Path) -> None:
    replay = replay_of(tmp_path)
    found = torch.cat([batch.rewards[0] for batch in replay.batches(4)])
    assert np.array_equal(found[:, 0], replay.windows.rewards)

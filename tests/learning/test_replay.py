"""The ring buffer of rows."""

import numpy as np
import pytest
import torch

from synther.learning.replay import RowBuffer, sample_mixed
from synther.transitions import TransitionLayout
from tests.data import random_transitions

LAYOUT = TransitionLayout(3, 2)


def rows(start: int, count: int) -> torch.Tensor:
    """Rows whose every column holds the row's number."""
    return torch.arange(start, start + count).float()[:, None].expand(-1, LAYOUT.row_dim).clone()


@pytest.mark.parametrize("sizes", [[4, 3, 5, 9], [10, 1], [23], [2] * 13])
def test_the_last_rows_remain_whatever_the_sizes_of_the_inserts(sizes: list[int]) -> None:
    buffer = RowBuffer(LAYOUT, 10)
    start = 0
    for size in sizes:
        buffer.insert(rows(start, size))
        start += size
        held = sorted(buffer.valid_rows()[:, 0].int().tolist())
        assert held == list(range(max(0, start - 10), start))
        assert len(buffer) == min(start, 10)


def test_a_batch_holds_the_columns_of_its_rows() -> None:
    transitions = random_transitions(rows=20)
    buffer = RowBuffer(LAYOUT, 20)
    buffer.insert_transitions(transitions)
    indices = torch.tensor([[3, 3, 19], [0, 7, 1]])
    batch = buffer.gather(indices)
    picked = indices.numpy()
    np.testing.assert_array_equal(batch.states, transitions.observations[picked])
    np.testing.assert_array_equal(batch.actions, transitions.actions[picked])
    np.testing.assert_array_equal(batch.rewards, transitions.rewards[picked][..., None])
    np.testing.assert_array_equal(batch.next_states, transitions.next_observations[picked])
    np.testing.assert_array_equal(batch.dones, transitions.terminals[picked][..., None])


def test_sampling_is_uniform_over_the_valid_rows_and_follows_its_generator() -> None:
    buffer = RowBuffer(LAYOUT, 100)
    buffer.insert(rows(0, 10))

    def drawn(seed: int) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(each) for each in (seed, 99)]
        return buffer.sample(5000, generators).rewards[..., 0]

    batch = drawn(0)
    counts = torch.bincount(batch[0].long(), minlength=10)
    # 5000 draws over 10 rows: 500 each, standard deviation 21
    assert len(counts) == 10
    assert (counts - 500).abs().max() < 100
    assert torch.equal(batch, drawn(0))
    other = drawn(1)
    assert not torch.equal(batch[0], other[0])
    assert torch.equal(batch[1], other[1])


def test_a_saved_buffer_goes_on_where_it_stood() -> None:
    buffer = RowBuffer(LAYOUT, 10)
    buffer.insert(rows(0, 14))
    copy = RowBuffer(LAYOUT, 10)
    copy.load_state_dict(buffer.state_dict())
    for each in (buffer, copy):
        each.insert(rows(14, 3))
    assert torch.equal(buffer.valid_rows(), copy.valid_rows())
    with pytest.raises(ValueError, match="10 stored rows do not fit the capacity 5"):
        RowBuffer(LAYOUT, 5).load_state_dict(buffer.state_dict())


def test_what_cannot_be_is_refused() -> None:
    buffer = RowBuffer(LAYOUT, 10)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(2, [torch.Generator()])
    with pytest.raises(ValueError, match=r"expected \[N, 10\]"):
        buffer.insert(torch.zeros(4, 9))
    with pytest.raises(ValueError, match="terminal column"):
        RowBuffer(TransitionLayout(3, 2, terminals=False), 10)
    with pytest.raises(ValueError, match="expected 1 or more"):
        RowBuffer(LAYOUT, 0)


def test_clearing_forgets_all_rows() -> None:
    buffer = RowBuffer(LAYOUT, 10)
    buffer.insert(rows(0, 14))
    buffer.clear()
    buffer.insert(rows(50, 2))
    assert buffer.valid_rows()[:, 0].tolist() == [50, 51]


def mixed(*counts: int, batches: int = 50) -> torch.Tensor:
    """First columns ``[batches, B]`` of batches of buffers that hold 0, 100, ... and 9 more."""
    parts = []
    for number, count in enumerate(counts):
        buffer = RowBuffer(LAYOUT, 10)
        buffer.insert(rows(100 * number, 10))
        parts.append((buffer, count, torch.Generator().manual_seed(number)))
    batch = sample_mixed(*parts, batches=batches)
    assert batch.dones.shape == (1, batches, sum(counts), 1)
    assert torch.equal(batch.states[..., :1], batch.dones)
    return batch.rewards[0, ..., 0]


@pytest.mark.parametrize("counts", [(3, 4), (0, 5), (6, 0), (1, 2, 3)])
def test_mixed_batches_have_an_exact_share_of_each_buffer_in_order(counts: tuple[int, ...]) -> None:
    sources = (mixed(*counts) // 100).int()
    expected = [number for number, count in enumerate(counts) for _ in range(count)]
    assert (sources == torch.tensor(expected)).all()


def test_mixed_batches_are_uniform_over_each_buffer() -> None:
    drawn = mixed(2, 8, batches=1000)
    for number, share in ((0, drawn[:, :2]), (1, drawn[:, 2:])):
        counts = torch.bincount((share - 100 * number).flatten().long(), minlength=10)
        expected = share.numel() / 10
        assert len(counts) == 10
        # five standard deviations of a binomial count
        assert (counts - expected).abs().max() < 5 * (0.9 * expected) ** 0.5


def test_a_mixed_batch_follows_its_generators() -> None:
    assert torch.equal(mixed(3, 4), mixed(3, 4))
    assert len(mixed(3, 4).unique(dim=0)) > 40

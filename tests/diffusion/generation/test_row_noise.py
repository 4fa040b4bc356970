import numpy as np
import pytest
import torch
from scipy import stats

from synther.diffusion.generation.row_noise import BLOCK_ROWS, RowNoise


def drawn(start, stop, seed=5, steps=3):
    noise = RowNoise(seed, start, stop, (4,))
    return [noise(i).clone() for i in range(steps)]


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (17, 24), (1000, 1100), (BLOCK_ROWS, 2 * BLOCK_ROWS), (900, 3000)]
)
def test_a_rows_noise_is_its_own(start, stop):
    for part, whole in zip(drawn(start, stop), drawn(0, 3000), strict=True):
        assert torch.equal(part, whole[start:stop])


def test_rows_steps_and_seeds_differ():
    first, second, _ = drawn(0, 2 * BLOCK_ROWS)
    assert len(torch.cat([first, second]).unique(dim=0)) == 4 * BLOCK_ROWS
    assert not torch.equal(first, drawn(0, 2 * BLOCK_ROWS, seed=6)[0])


def test_noise_is_unit_gaussian_within_and_across_blocks():
    values = torch.stack(drawn(0, 20 * BLOCK_ROWS, steps=2)).numpy()
    assert stats.kstest(values.ravel()[::8], "norm").pvalue > 0.01
    columns = values.reshape(2, 20, -1)
    between = np.corrcoef(columns[0])[np.triu_indices(20, 1)]
    assert np.abs(between).max() < 5 / np.sqrt(4 * BLOCK_ROWS)
    assert abs(np.corrcoef(columns[0].ravel(), columns[1].ravel())[0, 1]) < 0.02

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from synther.diffusion.training.row_source import RowSource

CPU = torch.device("cpu")


def test_rows_are_drawn_uniformly_and_whole():
    rows = np.stack([np.arange(50.0), np.arange(50.0) * 10], axis=1)
    batch = RowSource(rows, CPU, seed=0).draw(50_000)
    assert batch.dtype == torch.float32
    assert torch.equal(batch[:, 1], batch[:, 0] * 10)
    counts = torch.bincount(batch[:, 0].long(), minlength=50)
    # 1000 expected each, standard deviation 31.
    assert counts.min() > 840
    assert counts.max() < 1160


def test_order_is_the_seeds():
    rows = torch.randn(100, 3)
    first, second = RowSource(rows, CPU, 5), RowSource(TensorDataset(rows), CPU, 5)
    assert torch.equal(first.draw(20), second.draw(20))
    assert not torch.equal(RowSource(rows, CPU, 6).draw(20), RowSource(rows, CPU, 5).draw(20))


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(3)])
def test_bad_shapes(bad):
    with pytest.raises(ValueError, match="expected \\[rows, columns\\]"):
        RowSource(bad, CPU, 0)


@pytest.mark.gpu
def test_rows_that_do_not_fit_stay_on_the_host(monkeypatch):
    monkeypatch.setattr("synther.runs.runtime.DEVICE_MEMORY_SHARE", 0.0)
    device = torch.device("cuda", torch.cuda.current_device())
    source = RowSource(torch.randn(100, 3), device, 0)
    assert source.rows.device == CPU
    assert source.draw(10).device == device


def test_other_rows_take_the_place_of_the_first_and_are_not_copied():
    source = RowSource(None, CPU, seed=0)
    first, second = torch.zeros(5, 3), torch.ones(8, 4)
    for rows in (first, second[:, :2]):
        source.replace(rows)
        assert source.rows.data_ptr() == rows.data_ptr()
        assert torch.equal(source.draw(6), rows[:1].expand(6, -1))
    second[:] = 5
    assert (source.draw(6) == 5).all()
    with pytest.raises(ValueError, match="row 1 of the dataset is not finite"):
        source.replace(torch.tensor([[1.0], [float("nan")]]))


def test_the_order_goes_on_when_rows_are_replaced():
    rows = torch.arange(50.0)[:, None]
    twice, once = RowSource(rows, CPU, 3), RowSource(rows, CPU, 3)
    drawn = [twice.draw(10)]
    twice.replace(rows)
    drawn.append(twice.draw(10))
    assert torch.equal(torch.cat(drawn), torch.cat([once.draw(10), once.draw(10)]))

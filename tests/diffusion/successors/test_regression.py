import torch

from synther.diffusion.successors.regression import MOMENTS, Size, StackedRegression, fit


def squared(outputs, targets):
    return (outputs - targets).square()


def rows(count, seed):
    """A column that is a function of the inputs, and one that is noise alone."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator)
    noise = torch.randn(count, 1, generator=generator)
    return inputs, torch.cat([inputs[:, :1].abs(), noise], dim=1)


def test_a_column_stops_when_held_out_rows_like_it_best():
    size = Size(members=2, width=48, steps=400)
    regression = fit(
        rows(200, 0), rows(1000, 1), loss=squared, size=size, seed=3, description="test"
    )
    first, second = regression.moment.tolist()
    assert len(regression.networks) <= len(MOMENTS)
    assert second < first  # the noise first, before it is learnt
    inputs, targets = rows(2000, 2)
    outputs = regression(inputs)
    assert outputs.shape == (2, 2000, 2)
    errors = squared(outputs.mean(dim=0), targets).mean(dim=0)
    assert errors[0] < 0.05 * targets[:, 0].var()
    last = StackedRegression([regression.networks[first]], torch.zeros(2, dtype=torch.int64))
    learnt = squared(last(inputs).mean(dim=0), targets).mean(dim=0)[1]
    assert errors[1] < learnt


def test_members_draw_from_their_own_rows():
    """Two members that see one constant target each say that one."""
    inputs = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.cat([torch.zeros(50, 1), torch.ones(50, 1)])
    pools = torch.arange(100).reshape(2, 50)
    size = Size(members=2, width=16, steps=300)
    regression = fit(
        (inputs, targets),
        (inputs, targets),
        loss=squared,
        size=size,
        seed=0,
        description="test",
        pools=pools,
    )
    last = StackedRegression([regression.networks[-1]], torch.zeros(1, dtype=torch.int64))
    means = last(inputs).mean(dim=(1, 2))
    assert means[0] < 0.1
    assert means[1] > 0.9


def test_without_columns_nothing_is_trained():
    inputs, targets = torch.randn(10, 3), torch.zeros(10, 0)
    size = Size(members=2, width=16, steps=10**9)
    regression = fit(
        (inputs, targets), (inputs, targets), loss=squared, size=size, seed=0, description="none"
    )
    assert regression(inputs).mean(dim=0).shape == (10, 0)
    again = StackedRegression.empty(**regression.shape())
    again.load_state_dict(regression.state_dict())

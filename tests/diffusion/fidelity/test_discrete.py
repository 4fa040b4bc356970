"""Which columns have values that come back, and which of them come too often, or are new."""

import numpy as np

from synther.diffusion.fidelity.discrete import Value, discrete_columns
from synther.diffusion.fidelity.findings import unseen_values
from synther.diffusion.norm.column_kinds import Column, kind_of


def test_constant_few_valued_and_continuous_columns_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    real = np.stack(
        [
            np.full(1000, 0.1),
            rng.permutation(np.repeat([0, 1], [700, 300])),
            rng.normal(size=1000),
            rng.normal(size=1000).clip(-1, 1),
            rng.integers(0, 500, 1000),
        ],
        axis=1,
    ).astype(np.float32)
    synthetic = real.copy()
    synthetic[:3, 0] = [0.1 + 1e-8, 0.1001, 5]  # rounding, and two that are wrong
    synthetic[:5, 1] = [0, 1, 0.5, 0.9999, -1]
    synthetic[:50, 2] = 2.0  # one in twenty at one value that no real row has
    found = {column.name: column for column in discrete_columns(real, synthetic, "abcde")}
    assert {name: column.kind for name, column in found.items()} == {
        **{"a": "constant", "b": "few", "c": "atoms", "d": "atoms"}
    }
    assert found["a"].unseen == 2
    assert found["b"].unseen == 3
    zeros, ones = found["b"].values
    assert (zeros.real, ones.real) == (700, 300)
    assert zeros.synthetic + ones.synthetic == 997
    assert found["c"].values == (Value(2.0, 0, 50),)
    beyond = [int(np.sum(real[:, 3] == bound)) for bound in (-1, 1)]
    assert [(each.value, each.real) for each in found["d"].values] == [
        (-1, beyond[0]),
        (1, beyond[1]),
    ]


def test_values_seen_once_say_how_many_there_are_that_were_not_seen() -> None:
    real = np.repeat([0.0, 1, 2, 3], [97, 1, 1, 1])[:, None]
    (column,) = discrete_columns(real, real, ["a"])
    assert column.kind == "few"
    assert column.chance == 0.03


def test_a_handful_of_rows_has_no_atoms() -> None:
    few = np.random.default_rng(0).normal(size=(60, 1))
    assert discrete_columns(few, few, ["a"]) == ()


def test_values_are_few_where_model_space_says_so() -> None:
    """A hundred values in ten rows each; of twenty values in fewer rows each, none is awaited."""
    for values, rows, few in ((100, 1000, True), (20, 190, False), (129, 2000, False)):
        real = (np.arange(rows) % values).astype(np.float32)[:, None]
        kinds = [each.kind for each in discrete_columns(real, real + 0.5, ["a"])]
        assert ("few" in kinds) == few == (kind_of(Column.of(real[:, 0]), 256) == "discrete")


def test_a_count_with_a_tail_has_values_that_no_real_row_shows() -> None:
    """Of these 2 500 real rows none has a value of its own, and others have further values."""
    counts = np.random.default_rng(48).poisson(30, (7500, 1)).clip(14, 50)
    real, others = np.split(counts.astype(np.float32), [2500])
    real = real[(real > 15) & (real < 49)][:, None]
    (column,) = discrete_columns(real, others, ["a"])
    assert column.chance < 0.0004 < 0.001 < column.unseen / len(others)
    found = unseen_values([column], len(real), len(others))
    assert found is not None
    assert found.passed
    flag = (others > 30).astype(np.float32)
    wrong = np.where(np.arange(len(flag)) < 10, 0.5, flag[:, 0])[:, None]
    found = unseen_values(discrete_columns(flag, wrong, ["a"]), len(flag), len(flag))
    assert found is not None
    assert not found.passed

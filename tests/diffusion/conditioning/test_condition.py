"""The map of a condition's values, and what can be asked for."""

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from synther.diffusion.conditioning.condition import LEVELS, Condition, ConditionError
from synther.diffusion.conditioning.values import Values

VALUES = np.random.default_rng(0).gamma(2.0, 3.0, size=4000) - 5


@pytest.fixture
def condition() -> Condition:
    return Condition.of("return", VALUES, "what followed")


def test_numbers_are_standardised_and_masked(condition: Condition) -> None:
    raw = condition.raw(VALUES[:5])
    kept = torch.tensor([True, False, True, True, False])
    expected = (VALUES[:5] - VALUES.mean()) / VALUES.std()
    mask = kept.numpy().astype(float)
    np.testing.assert_allclose(
        condition.encode(raw, kept).numpy(),
        np.column_stack([expected * mask, mask]),
        rtol=1e-5,
        atol=1e-6,
    )
    assert condition.dim == 2
    assert torch.equal(condition.encode(raw)[:, 1], torch.ones(5))
    assert torch.equal(condition.nothing(torch.ones(3, 7)), torch.zeros(3, 2))


def test_labels_are_one_hot_and_masked() -> None:
    condition = Condition.of("source", np.array(["online", "offline", "online", "b"]))
    assert condition.labels == ("b", "offline", "online")
    raw = condition.raw(["online", "b"])
    assert condition.encode(raw, torch.tensor([True, False])).tolist() == [
        [0, 0, 1, 1],
        [0, 0, 0, 0],
    ]
    assert condition.asked("offline", 2).tolist() == [[0, 1, 0], [0, 1, 0]]
    with pytest.raises(ConditionError, match="no label 'expert', it has b, offline, online"):
        condition.asked("expert", 2)


@pytest.mark.parametrize(("target", "low", "high"), [("top 10%", 0.9, 1), ("bottom 25 %", 0, 0.25)])
def test_a_quantile_has_the_distribution_of_the_rows_in_it(
    condition: Condition, target: str, low: float, high: float
) -> None:
    drawn = condition.asked(target, 20_000, seed=1).numpy()[:, 0]
    ordered = np.sort(VALUES)
    part = ordered[round(low * len(ordered)) : round(high * len(ordered))]
    # Between neighbouring quantiles values are interpolated, and 20 000 draws err by 1 / 140.
    spread = part.std()
    assert abs(drawn.mean() - part.mean()) < 0.05 * spread
    assert abs(drawn.std() - spread) < 0.05 * spread
    assert drawn.min() >= part.min() - 0.01 * np.ptp(VALUES)
    assert drawn.max() <= part.max() + 0.01 * np.ptp(VALUES)
    assert np.array_equal(condition.asked(target, 50, seed=1)[:, 0], drawn[:50])
    assert not np.array_equal(condition.asked(target, 50, seed=2)[:, 0], drawn[:50])


@pytest.mark.parametrize("rows", [10, 611, 20_000])
@pytest.mark.parametrize("share", [0.0045, 0.3, 0.5])
def test_a_quantile_of_few_values_asks_for_those_that_rows_have(rows: int, share: float) -> None:
    values = np.zeros(rows)
    values[: max(1, round(share * rows))] = 1
    share = values.mean()
    condition = Condition.of("reward", values)
    for width in (0.01, 0.6):
        asked = condition.asked(f"top {100 * width:g}%", 10_000).numpy()[:, 0]
        assert set(asked) <= {0, 1}
        # Quantiles are a thousandth apart, and 10 000 draws err by 0.005.
        assert abs(asked.mean() - min(1, share / width)) < 0.0011 / width + 0.02
        assert set(condition.asked(f"bottom {100 * width:g}%", 5000).numpy()[:, 0]) <= {0, 1}


def test_a_quantile_of_many_values_lies_between_quantiles_as_it_did(condition: Condition) -> None:
    levels = 1 - 0.1 * np.random.default_rng((4, 2)).random(200)
    expected = np.interp(
        levels, np.linspace(0, 1, LEVELS), np.quantile(VALUES, np.linspace(0, 1, LEVELS))
    )
    found = condition.asked("top 10%", 200, seed=4)[:, 0]
    assert torch.equal(found, torch.from_numpy(expected).float())


@pytest.mark.parametrize("side", ["above", "below"])
def test_a_target_beyond_the_trained_range_says_by_how_much(
    condition: Condition, side: str
) -> None:
    end = VALUES.max() if side == "above" else VALUES.min()
    beyond = end + (2.5 if side == "above" else -2.5)
    message = f"is 2.5 {side} the trained range, which ends at {end:.6g}"
    with pytest.raises(ConditionError, match=re.escape(message)):
        condition.asked(beyond, 3)
    one_of_three = np.array([0.0, beyond, 1.0])
    with pytest.raises(ConditionError, match=re.escape(message)):
        condition.asked(one_of_three, 3)
    assert condition.asked(float(np.float32(end)), 1).item() == pytest.approx(end)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("best", "target 'best' of condition 'return': expected a number, or a quantile"),
        ("top 0%", "expected a number, or a quantile"),
        ("top 101%", "expected a number, or a quantile"),
        ([1.0, 2.0], r"has shape \(2,\), expected a number or \[3\]"),
        ([1.0, np.nan, 2.0], "is nan for sample 1"),
        ([1.0, "x", 2.0], "are no numbers"),
    ],
)
def test_what_cannot_be_asked_for(condition: Condition, target: object, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        condition.asked(target, 3)  # type: ignore[arg-type]


def test_a_number_between_few_values_is_warned_of(condition: Condition) -> None:
    few = Condition.of("stage", np.array([0.0, 0.1, 1.0] * 5))
    with pytest.warns(
        UserWarning, match=r"have 3 values, of which the nearest are 0\.1 and 1, and"
    ):
        few.asked(0.5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for known in (0.0, 0.1, np.float32(0.1), 1, "top 40%", np.array([0.5, 0.2])):
            few.asked(known, 2)
        condition.asked(0.01234, 2)  # of many values


def test_a_word_is_a_number_where_the_condition_is_one(condition: Condition) -> None:
    labelled = Condition.of("source", np.array(["1", "2"]))
    assert condition.meant("2") == 2.0
    assert condition.meant("top 10%") == "top 10%"
    assert labelled.meant("2") == "2"
    assert labelled.asked(labelled.meant("2"), 1).tolist() == [[0, 1]]


def test_a_label_that_no_row_had_is_not_asked_for() -> None:
    condition = Condition.of("source", np.array(["a", "b", "a"]), labels=("a", "b", "c"))
    assert condition.dim == 4
    with pytest.raises(ConditionError, match="no row that the model is trained with has this"):
        condition.asked("c", 2)
    assert condition.asked(["a", "b"], 2).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert Condition.from_plain(condition.to_plain()) == condition


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1e-9), (1e8, 1.0), (-3e12, 1e6), (7.0, 1e-7)])
def test_tiny_numbers_and_far_ones_are_told_apart(offset: float, scale: float) -> None:
    values = offset + scale * np.random.default_rng(0).random(1000)
    condition = Values("own", values, "").condition()
    c = condition.encode(condition.raw(values))[:, 0].double().numpy()
    assert len(np.unique(c)) > 900
    np.testing.assert_allclose(c, (values - values.mean()) / values.std(), atol=1e-3)
    asked = condition.asked("top 10%", 50)
    assert (condition.encode(asked)[:, 0] > 1).all()
    assert Condition.from_plain(condition.to_plain()) == condition
    # What lies beyond the range is beyond it, however little that is beside the offset.
    with pytest.raises(ConditionError, match="above the trained range"):
        condition.asked(float(values.max() + 2 * scale), 3)


def test_ordinary_numbers_keep_their_bits(condition: Condition) -> None:
    assert Values("return", VALUES, "what followed").condition() == condition
    assert "offset" not in condition.to_plain()
    assert "unseen" not in condition.to_plain()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (1.0 + 1e-12 * VALUES, "no more than rounding beside their size"),
        (np.append(VALUES, 1e15), r"of \d+ quantiles \d differ; give values with those clipped"),
        (1e60 * VALUES, "beyond what the network's float32 holds"),
        (np.zeros(9), "in every row"),
    ],
)
def test_numbers_that_are_one_to_the_network_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        Values("own", values, "").condition()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\), expected \[rows\]"),
        (np.array([0.0, np.inf]), "not finite in row 1"),
        (np.zeros(0), "expected"),
    ],
)
def test_what_cannot_be_learnt_from(values: np.ndarray, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        Condition.of("own", values)


def test_it_goes_through_plain_values(condition: Condition) -> None:
    labelled = Condition.of("source", np.array(["a", "b"]))
    for each in (condition, labelled):
        plain = each.to_plain()
        assert Condition.from_plain(plain) == each
        assert all(type(value) in (str, float, list) for value in plain.values())
    assert len(condition.quantiles) == LEVELS


@pytest.mark.parametrize("of", [object, np.longdouble, np.float32])
def test_a_target_of_numbers_of_any_type_is_one(condition: Condition, of: Any) -> None:
    target = np.array([0.5, 1.0, 0.25], of)
    assert condition.asked(target, 3).flatten().tolist() == [0.5, 1.0, 0.25]


def test_complex_numbers_are_no_target(condition: Condition) -> None:
    with pytest.raises(ConditionError, match="are no numbers"):
        condition.asked(np.array([0.5j, 1j]), 2)


def test_a_tensor_may_be_in_bfloat16(condition: Condition) -> None:
    target = torch.tensor([0.5, 1.0], dtype=torch.bfloat16)
    assert condition.asked(target, 2).flatten().tolist() == [0.5, 1.0]

"""What a condition is in real rows, against sums written out in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synther.datasets import load_dataset
from synther.diffusion.conditioning.condition import Condition, ConditionError
from synther.diffusion.conditioning.values import named_values, return_to_go, values_of, with_values
from synther.transitions import TransitionError, Transitions
from tests.data import random_transitions


def episodes(lengths: list[int], ends: list[str], seed: int = 0) -> Transitions:
    """Episodes in their order; each ends in a terminal, a time-out or where the next one begins."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {}
    for length, end in zip(lengths, ends, strict=True):
        states = rng.normal(size=(length + 1, 2)).astype(np.float32)
        last = np.arange(length) == length - 1
        fields = {
            "observations": states[:-1],
            "actions": rng.uniform(-1, 1, (length, 1)),
            "rewards": rng.normal(size=length),
            "next_observations": states[1:],
            "terminals": last & (end == "terminal"),
            "timeouts": last & (end == "timeout"),
        }
        for name, array in fields.items():
            parts.setdefault(name, []).append(array)
    return Transitions.from_arrays({name: np.concatenate(each) for name, each in parts.items()})


def test_return_to_go_is_the_sum_of_what_follows_in_the_episode() -> None:
    lengths = [5, 1, 7, 4]
    data = episodes(lengths, ["terminal", "timeout", "timeout", "open"])
    expected, start = [], 0
    for length in lengths:
        rewards = data.rewards[start : start + length].astype(np.float64)
        expected += [
            sum(0.9 ** (k - t) * rewards[k] for k in range(t, length)) for t in range(length)
        ]
        start += length
    np.testing.assert_allclose(return_to_go(data, 0.9), expected, rtol=1e-12)
    undiscounted = return_to_go(data, 1.0)
    assert undiscounted[0] == pytest.approx(data.rewards[:5].astype(np.float64).sum())
    np.testing.assert_array_equal(return_to_go(data, 0.0), data.rewards.astype(np.float64))


def test_rows_out_of_order_have_no_return() -> None:
    with pytest.raises(TransitionError, match="do not lie in the order of their episodes"):
        values_of("return", random_transitions(50))
    with pytest.raises(ValueError, match=r"discount is 1\.5"):
        return_to_go(episodes([3], ["terminal"]), 1.5)


def test_rows_that_are_missing_make_returns_too_small_and_are_warned_of() -> None:
    whole = load_dataset("hopper-demo-v0")
    rng = np.random.default_rng(0)
    for share in (0.99, 0.9, 0.7):
        some = np.flatnonzero(rng.random(len(whole)) < share)
        broken = int((np.diff(some) > 1)[whole.terminals[some[:-1]] == 0].sum())
        message = rf"{broken} of the {len(some)} rows break off.*give all rows of the episodes"
        with pytest.warns(UserWarning, match=message):
            return_to_go(whole.subset(some))


@pytest.mark.filterwarnings("error")
def test_episodes_that_were_cut_off_are_not_missing_rows() -> None:
    """Whole episodes of a data set; a replay of short ones, with and without its time-outs; and
    stretches of any length, whose time-outs are known."""
    return_to_go(load_dataset("hopper-demo-v0"))
    lengths = [5, 5, 3, 5, 5, 2] * 10
    replay = episodes(lengths, ["timeout" if each == 5 else "terminal" for each in lengths])
    return_to_go(replay)
    unknown = Transitions(**replay.arrays())
    np.testing.assert_array_equal(return_to_go(unknown), return_to_go(replay))
    return_to_go(episodes([*range(4, 34)], ["timeout"] * 30))
    return_to_go(Transitions(**episodes([*range(4, 13)], ["timeout"] * 9).arrays()))  # but a few


def test_columns_have_names() -> None:
    data = episodes([30], ["terminal"])
    for name, expected in [
        ("reward", data.rewards),
        ("rewards", data.rewards),
        ("observations[1]", data.observations[:, 1]),
        ("actions[0]", data.actions[:, 0]),
        ("terminal", data.terminals),
    ]:
        found = values_of(name, data)
        np.testing.assert_array_equal(found.values, expected)
        assert found.condition().name == name
    with pytest.raises(ConditionError, match=r"no condition 'rewrad'; did you mean reward\?"):
        values_of("rewrad", data)


def test_given_values_have_one_for_each_row(tmp_path: Path) -> None:
    data = episodes([6], ["terminal"])
    labels = np.array(["a"] * 4 + ["b"] * 2)
    assert values_of("source", data, given=labels).condition().labels == ("a", "b")
    np.save(tmp_path / "novelty.npy", np.arange(6.0))
    found = named_values(data, str(tmp_path / "novelty.npy"))
    assert found is not None
    assert found.name == "novelty"
    rows = np.ones((6, 3), np.float32)
    joined, condition = with_values(rows, found)
    np.testing.assert_array_equal(joined, np.column_stack([rows, np.arange(6)]))
    assert condition == found.condition()
    assert with_values(rows, None) == (rows, None)
    assert named_values(data) is None
    with pytest.raises(ConditionError, match=r"shape \(5,\), expected \[6\], one for each row"):
        values_of("own", data, given=np.arange(5))
    with pytest.raises(ConditionError, match="numbers or labels, one for each row"):
        named_values(data, str(tmp_path / "missing.npy"))
    with pytest.raises(ConditionError, match=r"'own' is 2\.0 in every row"):
        values_of("own", data, given=np.full(6, 2.0)).condition()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0.0, 1.0, None, 3.0], "condition 'own' is None in row 2, expected a number or a label"),
        (["a", "b", "a", None], "condition 'own' is None in row 3, expected a number or a label"),
        (np.array([0.0, 1, float("nan"), 3], dtype=object), "condition 'own' is nan in row 2"),
        (np.array(["a", float("nan"), "b", "c"], dtype=object), "condition 'own' is nan in row 1"),
        ([1j, 0, 0, 0], "type complex128, expected numbers"),
        ([{}, "a", "b", "c"], r"condition 'own' is \{\} in row 0"),
        (np.array([b"a", b"\xff", b"a", b"b"]), r"the label b'\\xff' is no UTF-8"),
    ],
)
def test_a_value_that_is_missing_is_no_label(given: Any, message: str) -> None:
    data = episodes([4], ["terminal"])
    with pytest.raises(ConditionError, match=message):
        values_of("own", data, given=given).condition()
    with pytest.raises(ConditionError, match=message):
        Condition.of("own", given)


def test_numbers_that_come_as_objects_are_numbers() -> None:
    data = episodes([5], ["terminal"])
    expected = values_of("own", data, given=np.array([0.0, 1.5, 2.0, 3.0, 1.0]))
    numbers = [0, 1.5, np.float32(2), np.int64(3), True]
    found = values_of("own", data, given=np.array(numbers, dtype=object))
    assert found.condition() == expected.condition()
    assert found.digest() == expected.digest()
    wanting = torch.tensor([0.0, 1.5, 2.0, 3.0, 1.0], dtype=torch.float64, requires_grad=True)
    assert values_of("own", data, given=wanting).condition() == expected.condition()
    assert expected.condition().asked(wanting, 5)[:, 0].tolist() == wanting.tolist()


def test_numbers_that_come_as_text_are_refused_and_a_few_labels_are_labels() -> None:
    many = np.random.default_rng(0).random(500).astype(str)
    for given in (many, many.astype(bytes), many.astype(object)):
        message = "'own' has 500 labels, such as '.*', and these read as numbers; give them as such"
        with pytest.raises(ConditionError, match=message):
            values_of("own", episodes([500], ["terminal"]), given=given)
    seeds = np.arange(20).astype(str)
    assert len(Condition.of("seed", seeds).labels) == 20
    names = np.array([f"task {number}" for number in range(500)])
    assert len(Condition.of("task", names).labels) == 500


def test_labels_as_bytes_are_text() -> None:
    values = values_of("own", episodes([3], ["terminal"]), given=np.array([b"b", b"a", b"a"]))
    condition = values.condition()
    assert condition.labels == ("a", "b")
    assert values.subset(np.array([1, 2])).condition(condition).unseen == ()
    assert torch.equal(condition.asked("b", 1), condition.asked(b"b", 1))


def test_a_file_in_the_home_directory_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "novelty.npy", np.arange(6.0))
    data = episodes([6], ["terminal"])
    named = named_values(data, "~/novelty.npy")
    assert named is not None
    for found in (named, values_of("own", data, given="~/novelty.npy")):
        np.testing.assert_array_equal(found.values, np.arange(6.0))


def test_a_part_of_the_rows_has_the_labels_of_all() -> None:
    values = values_of("source", episodes([6], ["terminal"]), given=np.array([*"aabbcb"]))
    part = values.subset(np.array([0, 1, 2, 5]))
    condition = part.condition()
    assert condition.labels == ("a", "b", "c")
    assert condition.unseen == ("c",)
    with pytest.raises(ConditionError, match="in every row that the model is trained with"):
        values.subset(np.array([0, 1])).condition()
    # A model that goes on keeps its labels, and knows what it has learnt before.
    whole = values.condition()
    assert part.condition(whole) == whole
    assert part.condition(condition) == condition
    assert values.condition(condition) == whole
    assert values.subset(np.array([0, 1])).condition(whole) == whole
    other = values_of("source", episodes([2], ["terminal"]), given=np.array(["a", "d"]))
    with pytest.raises(ConditionError, match="that has a, b, c, and no d; use fit for a new model"):
        other.condition(whole)


def test_other_values_have_another_digest() -> None:
    data = episodes([6], ["terminal"])
    for one, other in ((np.arange(6.0), np.arange(6.0) + 1), (np.array([*"abcabc"]), [*"abcabb"])):
        digests = {values_of("own", data, given=given).digest() for given in (one, other, one)}
        assert len(digests) == 2


def test_values_that_are_masked_are_refused() -> None:
    rows = random_transitions(30)
    masked = np.ma.array(np.arange(30.0), mask=np.arange(30) == 7)  # type: ignore[no-untyped-call]
    with pytest.raises(ConditionError, match="are masked, row 7 first"):
        values_of("mine", rows, given=masked)
    whole = np.ma.array(np.arange(30.0))  # type: ignore[no-untyped-call]
    assert values_of("mine", rows, given=whole).values.tolist() == list(range(30))


def test_large_whole_numbers_are_not_said_to_be_the_same() -> None:
    large = np.arange(30, dtype=np.uint64) + 2**63
    with pytest.raises(ConditionError, match="less than float64 can tell apart"):
        values_of("mine", random_transitions(30), given=large).condition()

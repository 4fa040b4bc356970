"""Transitions and their layout: what goes in comes out, and what is bad is refused by name."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synther.files import npz
from synther.transitions import FIELDS, TransitionError, TransitionLayout, Transitions
from tests.data import random_transitions

FLOATS = st.floats(-1e6, 1e6, width=32)


@st.composite
def five(draw: st.DrawFn, min_rows: int = 0, dims: tuple[int, int] | None = None) -> dict[str, Any]:
    """Five arrays that are transitions."""
    rows = draw(st.integers(min_rows, 12))
    width, actions = dims or (draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    array = lambda *shape: draw(hnp.arrays(np.float32, shape, elements=FLOATS))  # noqa: E731
    return {
        "observations": array(rows, width),
        "actions": array(rows, actions),
        "rewards": array(rows),
        "next_observations": array(rows, width),
        "terminals": draw(hnp.arrays(bool, rows)).astype(np.float32),
    }


def small(**changes: Any) -> dict[str, Any]:
    arrays = {
        "observations": np.arange(12).reshape(4, 3),
        "actions": np.arange(8).reshape(4, 2) / 8,
        "rewards": np.arange(4),
        "next_observations": np.arange(12).reshape(4, 3) + 3,
        "terminals": np.array([0, 0, 1, 0]),
    }
    return {**arrays, **changes}


def same(transitions: Transitions, arrays: dict[str, Any]) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(transitions, name), arrays[name], err_msg=name)


# --- the door ------------------------------------------------------------------------------------


@given(five())
def test_arrays_are_kept_as_contiguous_float32(arrays):
    transitions = Transitions.from_arrays(arrays)
    same(transitions, arrays)
    for array in transitions.arrays().values():
        assert array.dtype == np.float32
        assert array.flags["C_CONTIGUOUS"]
    assert len(transitions) == len(arrays["rewards"])
    assert transitions.observation_dim == arrays["observations"].shape[1]
    assert transitions.action_dim == arrays["actions"].shape[1]


def test_other_number_types_orders_and_columns_are_taken():
    arrays = small(
        observations=np.asfortranarray(np.arange(12.0).reshape(4, 3)),
        rewards=np.arange(4)[:, None],
        terminals=np.array([[False], [False], [True], [False]]),
    )
    same(Transitions.from_arrays({**arrays, "other": "ignored"}), small())


@pytest.mark.parametrize("name", FIELDS)
def test_missing_field_is_named(name):
    arrays = small()
    del arrays[name]
    with pytest.raises(TransitionError, match=rf"my file: missing '{name}'; found"):
        Transitions.from_arrays(arrays, source="my file")


@given(
    five(min_rows=1), st.sampled_from(FIELDS), st.sampled_from([np.nan, np.inf, -np.inf]), st.data()
)
def test_first_row_that_is_not_finite_is_named(arrays, name, value, data):
    rows = data.draw(st.sets(st.integers(0, len(arrays["rewards"]) - 1), min_size=1))
    array = arrays[name].copy()
    for row in rows:
        array[row, ...] = value if array.ndim == 1 else [*array[row, :-1], value]
    with pytest.raises(TransitionError) as caught:
        Transitions.from_arrays({**arrays, name: array}, source="my file")
    message = f"my file: '{name}' is not finite in {len(rows)} of {len(array)} rows"
    assert str(caught.value).startswith(message)
    assert f"first in row {min(rows)}:" in str(caught.value)


def test_float64_beyond_float32_is_not_finite():
    with pytest.raises(TransitionError, match="'rewards' is not finite in 1 of 4 rows"):
        Transitions.from_arrays(small(rewards=np.array([0, 0, 1e39, 0])))


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0])
def test_terminal_other_than_0_and_1_is_named(value):
    with pytest.raises(TransitionError, match=rf"'terminals' in row 1 is {value}"):
        Transitions.from_arrays(small(terminals=np.array([0, value, value, 1])))


@pytest.mark.parametrize("name", FIELDS)
def test_lengths_that_differ(name):
    arrays = small()
    arrays[name] = arrays[name][:3]
    other = "'actions' has 4" if name == "observations" else f"'{name}' has 3"
    with pytest.raises(TransitionError, match=f"{other} rows, 'observations' has"):
        Transitions.from_arrays(arrays)


def test_observations_of_two_widths():
    with pytest.raises(TransitionError, match=r"'next_observations' has 5\s+columns.* has 3"):
        Transitions.from_arrays(small(next_observations=np.zeros((4, 5))))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("observations", (4,)),
        ("actions", (4, 2, 1)),
        ("next_observations", (4, 0)),
        ("rewards", (4, 2)),
        ("terminals", ()),
    ],
)
def test_wrong_dimensions(name, shape):
    with pytest.raises(TransitionError) as caught:
        Transitions.from_arrays(small(**{name: np.zeros(shape)}))
    assert f"'{name}' has shape {shape}" in str(caught.value)


@pytest.mark.parametrize(
    "values", [np.array(["a"] * 4), np.array([None] * 4), np.zeros(4, complex)], ids=repr
)
def test_things_that_are_not_numbers(values):
    with pytest.raises(TransitionError, match="'rewards' has type"):
        Transitions.from_arrays(small(rewards=values))


# --- parts and wholes ----------------------------------------------------------------------------


@given(five(min_rows=1), st.data())
def test_subset_by_slice_indices_and_mask(arrays, data):
    transitions = Transitions.from_arrays(arrays, metadata={"env_id": "x"})
    rows = data.draw(st.lists(st.integers(0, len(transitions) - 1), max_size=20))
    mask = data.draw(hnp.arrays(bool, len(transitions)))
    stop = data.draw(st.integers(0, len(transitions)))
    for choice in (np.array(rows, int), mask, slice(1, stop)):
        part = transitions.subset(choice)
        same(part, {name: array[choice] for name, array in arrays.items()})
        assert part.metadata == {"env_id": "x"}


@given(five(min_rows=2), st.floats(0.01, 0.99), st.integers(0, 5))
def test_split_gives_each_row_to_one_part(arrays, fraction, seed):
    arrays["rewards"] = np.arange(len(arrays["rewards"]), dtype=np.float32)  # names each row
    transitions = Transitions.from_arrays(arrays)
    kept, held_out = transitions.split(fraction, seed)
    together = np.concatenate([kept.rewards, held_out.rewards])
    assert sorted(together) == arrays["rewards"].tolist()
    assert min(len(kept), len(held_out)) >= 1
    assert abs(len(held_out) - fraction * len(transitions)) <= 1
    same(held_out, {n: a[held_out.rewards.astype(int)] for n, a in arrays.items()})
    again = transitions.split(fraction, seed)[1]
    np.testing.assert_array_equal(again.rewards, held_out.rewards)


@given(st.lists(five(dims=(3, 2)), min_size=1, max_size=4))
def test_concatenate_keeps_rows_in_order_and_agreed_metadata(parts):
    whole = Transitions.concatenate(
        [
            Transitions.from_arrays(part, metadata={"env_id": "x", "part": number})
            for number, part in enumerate(parts)
        ]
    )
    same(whole, {name: np.concatenate([part[name] for part in parts]) for name in FIELDS})
    assert whole.metadata == {"env_id": "x"} | ({"part": 0} if len(parts) == 1 else {})


def test_concatenate_names_the_part_that_does_not_fit():
    first = Transitions.from_arrays(small(), source="first")
    second = Transitions.from_arrays(small(actions=np.zeros((4, 7))), source="second")
    with pytest.raises(TransitionError, match=r"second: 3 observation and 7\s+action .*first"):
        Transitions.concatenate([first, second])
    with pytest.raises(ValueError, match="nothing"):
        Transitions.concatenate([])


@given(five(min_rows=1))
def test_statistics_column_by_column(arrays):
    table = Transitions.from_arrays(arrays).statistics()
    for name in FIELDS:
        columns = list(arrays[name].T) if arrays[name].ndim == 2 else [arrays[name]]
        for column, values in enumerate(columns):
            values = [float(value) for value in values]
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
            found = {key: numbers[column] for key, numbers in table[name].items()}
            assert found["mean"] == pytest.approx(mean, abs=1e-6)
            assert found["std"] == pytest.approx(variance**0.5, abs=1e-6)
            assert (found["min"], found["max"]) == (min(values), max(values))


def test_no_rows_have_no_statistics():
    with pytest.raises(TransitionError, match="no rows"):
        Transitions.from_arrays(small()).subset([]).statistics()


# --- rows ----------------------------------------------------------------------------------------


@given(five(), st.booleans())
def test_pack_is_the_row_of_the_paper_and_unpack_undoes_it(arrays, terminals):
    transitions = Transitions.from_arrays(arrays)
    layout = TransitionLayout.of(transitions, terminals=terminals)
    rows = layout.pack(transitions)
    assert rows.dtype == np.float32
    assert rows.shape == (len(transitions), layout.row_dim)
    for i, row in enumerate(rows):
        expected = [*arrays["observations"][i], *arrays["actions"][i], arrays["rewards"][i]]
        expected += [*arrays["next_observations"][i]]
        expected += [arrays["terminals"][i]] if terminals else []
        assert row.tolist() == expected
    if not terminals:
        arrays["terminals"] = np.zeros_like(arrays["terminals"])
    same(layout.unpack(rows, metadata={"a": 1}), arrays)


def test_split_gives_views_by_name_for_numpy_and_torch():
    torch = pytest.importorskip("torch")
    layout = TransitionLayout(3, 2)
    rows = np.arange(20, dtype=np.float32).reshape(2, 10)
    expected = {
        "observations": [[0, 1, 2], [10, 11, 12]],
        "actions": [[3, 4], [13, 14]],
        "rewards": [[5], [15]],
        "next_observations": [[6, 7, 8], [16, 17, 18]],
        "terminals": [[9], [19]],
    }
    for fields in (layout.split(rows), layout.split(torch.from_numpy(rows))):
        assert {name: values.tolist() for name, values in fields.items()} == expected
    layout.split(rows)["rewards"][:] = -1
    assert rows[:, 5].tolist() == [-1, -1]
    names = ["observations[0]", "observations[1]", "observations[2]", "actions[0]", "actions[1]"]
    names += ["rewards", "next_observations[0]", "next_observations[1]", "next_observations[2]"]
    assert layout.column_names == [*names, "terminals"]
    assert TransitionLayout(3, 2, terminals=False).column_names == names


def test_unpack_thresholds_the_terminal_column():
    layout = TransitionLayout(1, 1)
    rows = np.zeros((4, 5), np.float32)
    rows[:, -1] = [-0.2, 0.5, 0.500001, 1.3]
    assert layout.unpack(rows).terminals.tolist() == [0, 0, 1, 1]
    assert layout.unpack(rows, terminal_threshold=1.0).terminals.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("column", range(5))
def test_unpack_refuses_what_is_not_finite_in_any_column(column):
    rows = np.zeros((3, 5), np.float32)
    rows[2, column] = np.nan
    with pytest.raises(TransitionError, match="first in row 2"):
        TransitionLayout(1, 1).unpack(rows)


def test_rows_and_layout_of_other_widths():
    transitions = Transitions.from_arrays(small())
    with pytest.raises(TransitionError, match=r"rows have 9 columns, the layout has 10: "):
        TransitionLayout(3, 2).unpack(np.zeros((4, 9)))
    with pytest.raises(TransitionError, match=r"3 observation and 2 action .*\s*.*4 and 2"):
        TransitionLayout(4, 2).pack(transitions)
    with pytest.raises(ValueError, match="one column or more"):
        TransitionLayout(0, 2)


# --- files ---------------------------------------------------------------------------------------


@given(five(), st.booleans(), st.dictionaries(st.text(), st.none() | FLOATS | st.text()))
def test_npz_round_trip_to_the_bit_with_metadata(arrays, compress, metadata):
    with tempfile.TemporaryDirectory() as folder:
        transitions = Transitions.from_arrays(arrays, metadata=metadata)
        path = transitions.save(Path(folder) / "new" / "data.npz", compress=compress)
        loaded = Transitions.load(path)
        for name in FIELDS:
            assert getattr(loaded, name).tobytes() == getattr(transitions, name).tobytes()
        assert loaded.metadata == metadata
        with np.load(path) as file:  # numpy alone reads it too, under the five names
            assert set(FIELDS) <= set(file.files)


@given(five(), st.integers(0, 15), st.booleans())
def test_limit_reads_the_first_rows(arrays, limit, compress):
    with tempfile.TemporaryDirectory() as folder:
        path = Transitions.from_arrays(arrays).save(Path(folder) / "data.npz", compress=compress)
        loaded = Transitions.load(path, limit=limit)
    same(loaded, {name: array[:limit] for name, array in arrays.items()})


@pytest.mark.parametrize("fault", ["write", "rename"])
def test_failing_save_leaves_the_old_file_and_nothing_else(monkeypatch, tmp_path, fault):
    old = Transitions.from_arrays(small())
    path = old.save(tmp_path / "data.npz")

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError("No space left on device")

    def refused(source, target):
        raise OSError("No space left on device")

    if fault == "write":
        monkeypatch.setattr(np, "savez", full)
    else:
        monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OSError, match="No space"):
        Transitions.from_arrays(small(rewards=np.ones(4))).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]
    same(Transitions.load(path), small())


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [*FIELDS, "metadata"])
def test_pickles_are_refused_and_never_run(tmp_path, name):
    went_off = tmp_path / "went_off"
    arrays = {**small(), name: np.array([Bomb(went_off)] * 4, dtype=object)}
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(TransitionError, match=f"'{name}' is an object array"):
        Transitions.load(path)
    assert not went_off.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("compress", [False, True])
def test_truncated_npz(tmp_path, share, compress):
    path = Transitions.from_arrays(small()).save(tmp_path / "data.npz", compress=compress)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(TransitionError, match=r"data\.npz: .*(truncated|again)"):
        Transitions.load(path)


def test_array_that_claims_more_than_it_holds(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**60, 3)}
    )
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("observations.npy", header.getvalue())
    with pytest.raises(TransitionError, match=r"data\.npz: "):
        Transitions.load(path)


@pytest.mark.parametrize("text", ["not json", "[1, 2]"])
def test_metadata_that_is_not_a_json_object(tmp_path, text):
    npz.write(tmp_path / "data.npz", {**small(), "metadata": np.array(text)})
    with pytest.raises(TransitionError, match="'metadata' is"):
        Transitions.load(tmp_path / "data.npz")


def test_metadata_is_json_text_in_the_file(tmp_path):
    data = Transitions.from_arrays(small(), metadata={"env_id": "Hopper-v2", "n": [1, None]})
    with np.load(data.save(tmp_path / "data.npz")) as file:
        assert json.loads(str(file["metadata"])) == {"env_id": "Hopper-v2", "n": [1, None]}


def test_missing_file_and_missing_arrays(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.npz: no such file"):
        Transitions.load(tmp_path / "no.npz")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(TransitionError, match=r"other\.npz: missing 'observations'"):
        Transitions.load(tmp_path / "other.npz")


def test_errors_of_a_file_name_the_file(tmp_path):
    np.savez(tmp_path / "data.npz", **small(rewards=np.array([0, np.nan, 0, 0])))
    with pytest.raises(TransitionError, match=r"data\.npz: 'rewards' .*row 1"):
        Transitions.load(tmp_path / "data.npz")


def test_a_negative_zero_is_no_terminal_and_does_not_look_like_one() -> None:
    data = random_transitions(5)
    given = replace(data, terminals=np.float32([-0.0, 1, 0, -0.0, 1]))
    assert not np.signbit(given.terminals).any()
    np.testing.assert_array_equal(given.terminals, [0, 1, 0, 0, 1])


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (
            ["obs", "act", "rew", "next_obs", "done"],
            "rename yours: {'observations': data['obs'], 'actions': data['act'], "
            "'rewards': data['rew'], 'next_observations': data['next_obs'], "
            "'terminals': data['done']} (without the rows that only ran out of time",
        ),
        (["observations", "actions", "rewards", "next_observations"], "terminals are zeros [N]"),
        (["observations", "actions", "rewards", "s2", "terminated"], "'terminals': data['termin"),
    ],
)
def test_arrays_of_other_names_get_the_mapping(tmp_path: Path, names: list[str], hint: str) -> None:
    given = {name: np.zeros((2, 1)) for name in names}
    np.savez(tmp_path / "mine.npz", **given)
    for door in (Transitions.from_arrays, lambda _: Transitions.load(tmp_path / "mine.npz")):
        with pytest.raises(TransitionError) as refused:
            door(given)
        assert hint in str(refused.value)


def test_printing_transitions_shows_a_summary() -> None:
    data = random_transitions(5, observation_dim=3, action_dim=2)
    assert str(data).startswith("Transitions: 5 rows of 3 observation and 2 action columns, ")
    made = {"rows": 300, "verdict": "samples look like held-out real rows"}
    about = {"source": "SynthER", "dataset": "hopper-demo-v0", "env_id": "Hopper-v2"}
    lines = str(replace(data, metadata={**about, "synther": made})).splitlines()
    assert lines[1] == "  from SynthER, by a model of 300 rows of hopper-demo-v0 in Hopper-v2"
    assert lines[2] == "  verdict: samples look like held-out real rows"
    assert "0 rows" in repr(data.subset(slice(0)))

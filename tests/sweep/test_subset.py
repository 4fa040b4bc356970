"""A share of a data set's rows: the same ones each time, and all of them the data set's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synther.corl.shared.normalizers import RewardNormalizer
from synther.datasets import load_dataset
from synther.sweeps import subset
from synther.transitions import Transitions
from tests.data import random_transitions


def test_the_same_rows_each_time(tmp_path: Path) -> None:
    data = random_transitions(rows=40)
    data.save(tmp_path / "all.npz")
    words = ["--dataset", str(tmp_path / "all.npz"), "--fraction", "0.25"]
    for name in ("one", "two"):
        subset.main([*words, "--output", str(tmp_path / f"{name}.npz")])
    subset.main([*words, "--seed", "1", "--output", str(tmp_path / "other.npz")])
    one, two, other = (load_dataset(tmp_path / f"{n}.npz") for n in ("one", "two", "other"))
    assert len(one) == 10
    np.testing.assert_array_equal(one.observations, two.observations)
    assert not np.array_equal(one.observations, other.observations)
    rows = {row.tobytes() for row in data.observations}
    drawn = {row.tobytes() for row in one.observations}
    assert len(drawn) == 10
    assert drawn <= rows


def test_a_run_can_be_evaluated_on_a_share(tmp_path: Path) -> None:
    path = tmp_path / "share.npz"
    subset.main(["--dataset", "hopper-demo-v0", "--fraction", "0.01", "--output", str(path)])
    whole = load_dataset("hopper-demo-v0")
    share = load_dataset(path)
    assert len(share) == round(0.01 * len(whole))
    assert share.metadata["env_id"] == whole.metadata["env_id"] == "Hopper-v2"
    # Of its own rows nobody can tell the episodes: it has the range of the whole set's returns.
    assert RewardNormalizer.of(share, "Hopper-v2") == RewardNormalizer.of(whole, "Hopper-v2")


@pytest.mark.parametrize(
    ("data_set", "fraction"), [("nothing.npz", "0.5"), ("hopper-demo-v0", "2")]
)
def test_nothing_is_written_of_what_cannot_be(data_set: str, fraction: str, tmp_path: Path) -> None:
    path = tmp_path / "share.npz"
    with pytest.raises(SystemExit) as end:
        subset.main(["--dataset", data_set, "--fraction", fraction, "--output", str(path)])
    assert end.value.code in (1, 2)  # 2: the command line itself
    assert list(tmp_path.iterdir()) == []


def test_the_data_set_is_not_replaced_by_a_share_of_it(tmp_path: Path) -> None:
    data = random_transitions(60).save(tmp_path / "mine.npz")
    with pytest.raises(SystemExit) as end:
        subset.main(["--dataset", str(data), "--fraction", "0.5", "--output", str(data)])
    assert end.value.code == 1
    assert len(Transitions.load(data)) == 60


def test_a_share_replaces_an_equal_or_smaller_one_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random_transitions(60).save(tmp_path / "all.npz")
    other = random_transitions(7).save(tmp_path / "other.npz")
    path = tmp_path / "share.npz"
    command = ["--dataset", str(tmp_path / "all.npz"), "--fraction"]
    for fraction in ("0.25", "0.25", "0.5"):
        subset.main([*command, fraction, "--output", str(path)])
    assert load_dataset(path).metadata["subset"] == {"share": 0.5, "seed": 0}
    for target, fraction, expected in (
        (path, "0.25", "holds 30 rows of a data set, and 15 would replace them"),
        (other, "0.25", "is there already, and holds no subset"),
    ):
        before = Path(target).read_bytes()
        with pytest.raises(SystemExit):
            subset.main([*command, fraction, "--output", str(target)])
        assert expected in capsys.readouterr().err
        assert Path(target).read_bytes() == before

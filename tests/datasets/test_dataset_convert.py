"""One door for every kind of data; a Minari set and back; rows into episodes."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from synther.datasets import as_transitions, load_dataset, minari_writer
from synther.datasets.episodes import episode_ends
from synther.datasets.hdf5_writer import write_hdf5
from synther.datasets.minari_writer import write_minari
from synther.installed import install_hint
from synther.transitions import Transitions
from tests.data import random_transitions
from tests.integrations.rows import assert_equal, chained


@given(chained())
def test_episodes_end_where_nothing_goes_on(transitions: Transitions) -> None:
    stops = np.flatnonzero(episode_ends(transitions)) + 1
    np.testing.assert_array_equal(stops, np.cumsum(transitions.metadata["lengths"]))


def test_independent_rows_are_episodes_of_one_step() -> None:
    assert episode_ends(random_transitions()).all()


def test_arrays_files_and_transitions_are_one(tmp_path: Path) -> None:
    data = random_transitions()
    archive = data.save(tmp_path / "data.npz")
    assert as_transitions(data) is data
    assert_equal(as_transitions(data.arrays()), data)
    assert_equal(as_transitions(archive), data)
    assert_equal(as_transitions(str(archive)), data)
    write_hdf5(tmp_path / "data.hdf5", data, np.zeros(len(data), bool))
    assert_equal(as_transitions(tmp_path / "data.hdf5"), load_dataset(tmp_path / "data.hdf5"))
    assert_equal(as_transitions("hopper-demo-v0"), load_dataset("hopper-demo-v0"))


@pytest.fixture
def minari(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari", reason="needs the extra minari")


def test_minari_sets_come_back_as_they_were_written(minari: Any) -> None:
    names = iter(range(1000))

    @settings(max_examples=15)
    @given(chained())
    def round_trip(transitions: Transitions) -> None:
        name = f"synther/test{next(names)}-v0"
        written = write_minari(transitions, name)
        back = load_dataset(name)
        assert_equal(back, transitions)
        ends = np.cumsum(transitions.metadata["lengths"]) - 1
        cut_off = ends[transitions.terminals[ends] == 0]
        assert np.flatnonzero(back.timeouts).tolist() == cut_off.tolist()
        assert back.metadata["lengths"] == transitions.metadata["lengths"]
        assert written.total_episodes == len(transitions.metadata["lengths"])
        assert_equal(as_transitions(minari.load_dataset(name)), transitions)

    round_trip()


def test_a_synthetic_minari_set_says_where_it_is_from(minari: Any) -> None:
    provenance = {"source": "SynthER", "env_id": "Hopper-v2", "synther": {"steps": 12}}
    rows = random_transitions()
    rows = Transitions.from_arrays(rows.arrays(), metadata=provenance)
    write_minari(rows, "synther/own/synthetic-v0")
    found = minari.load_dataset("synther/own/synthetic-v0")
    stated = found.storage.metadata
    assert stated["algorithm_name"] == "SynthER"
    assert stated["description"].startswith("64 synthetic transitions, drawn by SynthER")
    assert json.loads(stated["synther_metadata"]) == provenance
    assert found.total_episodes == found.total_steps == 64
    for row, episode in enumerate(found.iterate_episodes()):
        assert episode.terminations.tolist() == [rows.terminals[row] == 1]
        assert episode.truncations.tolist() == [rows.terminals[row] == 0]
    back = load_dataset("synther/own/synthetic-v0")
    assert back.metadata["env_id"] == "Hopper-v2"
    assert back.metadata["synther"] == {"steps": 12}


def test_a_minari_set_of_many_episodes_says_first_what_it_takes(
    minari: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minari_writer, "MANY", 50)
    with pytest.warns(UserWarning, match=r"64 rows are 64 episodes, which take about .* GB and"):
        write_minari(random_transitions(), "synther/many-v0")


def test_a_minari_set_of_an_environment_has_its_spaces(minari: Any) -> None:
    written = write_minari(
        random_transitions(action_dim=1), "synther/pendulum-v0", env_id="Pendulum-v1"
    )
    assert written.recover_environment().spec.id == "Pendulum-v1"
    assert written.action_space.high.tolist() == [2.0]
    assert load_dataset("synther/pendulum-v0").metadata["env_id"] == "Pendulum-v1"


def test_a_minari_set_is_never_overwritten_and_never_half_there(
    minari: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = random_transitions()
    write_minari(rows, "synther/there-v0")
    with pytest.raises(ValueError, match=r"exists in .*minari.delete_dataset"):
        write_minari(rows, "synther/there-v0")
    assert len(load_dataset("synther/there-v0")) == 64
    with pytest.raises(ValueError, match="no rows"):
        write_minari(rows.subset(slice(0, 0)), "synther/empty-v0")

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(minari.dataset._storages.hdf5_storage.HDF5Storage, "update_episodes", full)
    with pytest.raises(OSError, match="no space"):
        write_minari(rows, "synther/half-v0")
    assert "synther/half-v0" not in minari.list_local_datasets()


def test_without_minari_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(ImportError, match=re.escape(install_hint("minari"))):
        write_minari(random_transitions(), "synther/any-v0")

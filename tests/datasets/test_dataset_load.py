"""The door: names, paths, metadata, and the errors of what is neither."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synther.datasets import (
    DatasetNotFoundError,
    dataset_info,
    list_datasets,
    load,
    load_dataset,
)
from synther.transitions import FIELDS, TransitionError, Transitions


def five(rows: int = 6) -> Transitions:
    random = np.random.default_rng(1)
    return Transitions(
        observations=random.normal(size=(rows, 4)),
        actions=random.normal(size=(rows, 2)),
        rewards=random.normal(size=rows),
        next_observations=random.normal(size=(rows, 4)),
        terminals=np.arange(rows) == 2,
    )


@pytest.fixture
def official(golden, tmp_path) -> Path:
    """Two of D4RL's files under their official names in $D4RL_DATASET_DIR."""
    folder = tmp_path / "d4rl"
    folder.mkdir()
    for name in ("hopper", "halfcheetah"):
        shutil.copy(golden / f"{name}-random-v2.sample.hdf5", folder / f"{name}_random-v2.hdf5")
    return folder


@pytest.fixture
def shipped(monkeypatch, tmp_path) -> Path:
    """A folder that stands for the package's own, with one data set in it."""
    folder = tmp_path / "shipped"
    monkeypatch.setattr(load, "SHIPPED_DIR", folder)
    data = five()
    Transitions(**data.arrays(), metadata={"env_id": "Hopper-v2", "source": "a test"}).save(
        folder / "hopper-demo-v0.npz"
    )
    return folder


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("name", ["hopper-random-v2", "halfcheetah-random-v2"])
def test_d4rl_name_reads_the_official_file(golden, name):
    data = load_dataset(name, d4rl_exact=True)
    recorded = np.load(golden / f"{name}.qlearning.npz")
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(data, field), recorded[field])


@pytest.mark.usefixtures("official")
def test_metadata_of_a_d4rl_name():
    metadata = load_dataset("hopper-random-v2").metadata
    assert metadata["dataset"] == "hopper-random-v2"
    assert metadata["source"] == "d4rl"
    assert metadata["env_id"] == "Hopper-v2"
    assert (metadata["observation_dim"], metadata["action_dim"]) == (11, 3)
    # d4rl/infos.py of d4rl 1.1
    assert metadata["reference_scores"] == [-20.272305, 3234.3]
    assert metadata["d4rl_exact"] is False


@pytest.mark.usefixtures("official")
def test_terminate_on_end_keeps_the_time_outs_with_their_real_successor(official):
    import h5py

    without, with_them = (
        load_dataset("halfcheetah-random-v2", terminate_on_end=flag) for flag in (False, True)
    )
    assert len(with_them) == len(without) + 2
    with h5py.File(official / "halfcheetah_random-v2.hdf5") as file:
        recorded = file["next_observations"][:]
    np.testing.assert_array_equal(with_them.next_observations[[99, 1099]], recorded[[99, 1099]])
    assert with_them.terminals.sum() == 0


@pytest.mark.usefixtures("official")
def test_metadata_travels_through_a_file(tmp_path):
    data = load_dataset("hopper-random-v2")
    again = load_dataset(data.save(tmp_path / "copy.npz"))
    assert again.metadata == data.metadata


def test_local_hdf5_by_path_is_known_by_its_official_file_name(golden, tmp_path):
    sample = golden / "hopper-random-v2.sample.hdf5"
    unknown = load_dataset(sample)
    assert unknown.metadata["source"] == "file"
    assert unknown.metadata["env_id"] is None
    assert unknown.metadata["reference_scores"] is None
    known = load_dataset(shutil.copy(sample, tmp_path / "hopper_random-v2.hdf5"))
    assert known.metadata["dataset"] == "hopper-random-v2"
    assert known.metadata["env_id"] == "Hopper-v2"
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(known, field), getattr(unknown, field))


def test_file_without_time_outs_is_cut_by_the_limit_of_its_name_or_the_callers(write_hdf5):
    flags = {"terminals": np.zeros(700, bool), "timeouts": None, "next_observations": None}
    known = write_hdf5("maze2d-umaze-sparse-v1.hdf5", rows=700, **flags)
    assert len(load_dataset(known)) == 699 - 2  # a limit of 300: rows 299 and 599
    unknown = write_hdf5("mine.hdf5", rows=700, **flags)
    with pytest.raises(TransitionError, match="max_episode_steps"):
        load_dataset(unknown)
    assert len(load_dataset(unknown, max_episode_steps=100)) == 699 - 6


def test_npz_of_five_arrays(tmp_path):
    data = five()
    np.savez(tmp_path / "x.npz", **data.arrays())
    loaded = load_dataset(str(tmp_path / "x.npz"))
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(loaded, field), getattr(data, field))
    assert loaded.metadata == {
        "dataset": "x",
        "source": "file",
        "env_id": None,
        "observation_dim": 4,
        "action_dim": 2,
        "reference_scores": None,
    }


@pytest.mark.parametrize(
    "options", [{"terminate_on_end": True}, {"d4rl_exact": True}, {"max_episode_steps": 5}]
)
def test_options_of_d4rls_layout_are_refused_elsewhere(tmp_path, options):
    path = five().save(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="HDF5 in D4RL's layout"):
        load_dataset(path, **options)


def test_bad_npz_has_the_errors_of_transitions(tmp_path):
    np.savez(tmp_path / "x.npz", observations=np.zeros((3, 2)))
    with pytest.raises(TransitionError, match=r"x\.npz: missing 'actions'"):
        load_dataset(tmp_path / "x.npz")


def test_shipped_set_is_found_by_name_and_listed(shipped):
    loaded = load_dataset("hopper-demo-v0")
    assert len(loaded) == 6
    assert loaded.metadata["dataset"] == "hopper-demo-v0"
    assert loaded.metadata["env_id"] == "Hopper-v2"
    assert loaded.metadata["source"] == "a test"
    assert loaded.metadata["reference_scores"] == [-20.272305, 3234.3]
    assert "hopper-demo-v0" in list_datasets()
    info = dataset_info("hopper-demo-v0")
    assert (info.source, info.env_id) == ("shipped", "Hopper-v2")
    assert info.path == shipped / "hopper-demo-v0.npz"
    assert info.reference_scores == (-20.272305, 3234.3)


def test_every_data_set_in_the_package_is_listed_and_none_has_a_d4rl_name():
    shipped = sorted(path.stem for path in load.SHIPPED_DIR.glob("*.npz"))
    d4rl_names = list_datasets()[len(shipped) :]
    assert list_datasets()[: len(shipped)] == shipped
    assert len(d4rl_names) == 155
    assert not set(shipped) & set(d4rl_names)
    for name in shipped:
        assert len(load_dataset(name)) > 0


def test_info_of_a_d4rl_name_needs_no_file(tmp_path):
    info = dataset_info("antmaze-umaze-v2")
    assert info.source == "d4rl"
    assert info.path.parent == tmp_path / "d4rl"
    assert not info.path.parent.exists()
    assert info.max_episode_steps == 700
    assert info.reference_scores == (0.0, 1.0)
    assert info.url.startswith("https://rail.eecs.berkeley.edu/")


@pytest.mark.parametrize("function", [load_dataset, dataset_info])
def test_unknown_name_offers_the_nearest(function):
    with pytest.raises(DatasetNotFoundError, match=r"did you mean .*hopper-medium-replay-v2"):
        function("hopper-medium-reply-v2")


@pytest.mark.parametrize("name", ["no/such/file.hdf5", "nothing.npz"])
def test_path_to_nothing(name):
    with pytest.raises(DatasetNotFoundError, match="no such file"):
        load_dataset(name)


def test_file_of_another_kind(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("1,2,3")
    with pytest.raises(TransitionError, match=r"\.hdf5, \.h5 or \.npz"):
        load_dataset(path)


def test_import_needs_no_file_format_and_no_simulator():
    program = (
        "import sys\n"
        "for name in ('h5py', 'minari', 'gymnasium', 'mujoco', 'tqdm'): sys.modules[name] = None\n"
        "import synther.datasets\n"
        "assert synther.datasets.list_datasets()\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)

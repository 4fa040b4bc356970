"""D4RL's names: which file, from where, and what a person is told when there is none."""

import pytest

from synther.datasets import DownloadError, d4rl


@pytest.fixture
def sample(golden) -> bytes:
    return (golden / "hopper-random-v2.sample.hdf5").read_bytes()


@pytest.fixture
def unreachable(monkeypatch) -> None:
    """All official sources are a port of this machine where nobody listens."""
    monkeypatch.setattr(d4rl, "OFFICIAL", "127.0.0.1:1/offline_rl/")
    monkeypatch.setattr(d4rl, "HUGGING_FACE", "http://127.0.0.1:1/mirror/")


def test_file_names_are_the_last_part_of_d4rls_urls(tmp_path):
    # The URLs of d4rl/infos.py, v1.1, for one name of each habit of naming.
    known = {
        "hopper-medium-replay-v2": "hopper_medium_replay-v2.hdf5",
        "walker2d-medium-replay-v0": "walker_mixed.hdf5",
        "maze2d-umaze-v1": "maze2d-umaze-sparse-v1.hdf5",
        "antmaze-large-diverse-v2": (
            "Ant_maze_hardest-maze_noisy_multistart_True_multigoal_True_sparse_fixed.hdf5"
        ),
        "pen-human-v1": "pen-human-v1.hdf5",
    }
    for name, file_name in known.items():
        assert d4rl.dataset_path(name) == tmp_path / "d4rl" / file_name
        assert d4rl.official_url(name).endswith("/" + file_name)
        assert d4rl.name_of(tmp_path / file_name) == name
    assert d4rl.official_url("hopper-random-v2") == (
        "https://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/hopper_random-v2.hdf5"
    )


def test_no_two_names_share_a_file():
    files = [d4rl.official_url(name).rsplit("/", 1)[-1] for name in d4rl.names()]
    assert len(set(files)) == len(files) == 155


def test_time_limits_are_those_d4rl_registers():
    known = {"hopper-expert-v0": 1000, "maze2d-open-v0": 150, "maze2d-large-dense-v1": 800}
    known |= {"antmaze-umaze-v2": 700, "pen-cloned-v1": 100, "kitchen-mixed-v0": 280}
    assert {name: d4rl.max_episode_steps(name) for name in known} == known


def test_default_folder_is_d4rls(monkeypatch, tmp_path):
    monkeypatch.delenv("D4RL_DATASET_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert d4rl.dataset_dir() == tmp_path / ".d4rl" / "datasets"


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize("file_name", ["hopper_random-v2.hdf5", "hopper-random-v2.hdf5"])
def test_file_that_is_there_needs_no_network(tmp_path, sample, file_name):
    path = tmp_path / "d4rl" / file_name
    path.parent.mkdir()
    path.write_bytes(sample)
    assert d4rl.locate("hopper-random-v2") == path


def test_absent_file_is_downloaded_to_where_d4rl_looks(server, monkeypatch, tmp_path, sample):
    # https is refused by a plain server, then http to the same place works.
    monkeypatch.setattr(d4rl, "OFFICIAL", server.url.removeprefix("http://") + "/offline_rl/")
    server.files["/offline_rl/gym_mujoco_v2/hopper_random-v2.hdf5"] = sample
    path = d4rl.locate("hopper-random-v2")
    assert path == tmp_path / "d4rl" / "hopper_random-v2.hdf5"
    assert path.read_bytes() == sample


def test_mirror_on_hugging_face_is_asked_when_the_official_server_refuses(
    server, monkeypatch, sample
):
    monkeypatch.setattr(d4rl, "OFFICIAL", server.url.removeprefix("http://") + "/offline_rl/")
    monkeypatch.setattr(d4rl, "HUGGING_FACE", server.url + "/hf/")
    server.files["/hf/hopper_random-v2.hdf5"] = sample
    server.status["/offline_rl/gym_mujoco_v2/hopper_random-v2.hdf5"] = 403
    assert d4rl.locate("hopper-random-v2").read_bytes() == sample


def test_truncated_file_on_a_server_is_not_taken_for_the_data_set(server, monkeypatch, sample):
    monkeypatch.setenv("SYNTHER_D4RL_MIRROR", server.url)
    server.files["/hopper_random-v2.hdf5"] = sample[: len(sample) // 2]
    with pytest.raises(DownloadError, match="truncated or damaged"):
        d4rl.locate("hopper-random-v2")
    assert list(d4rl.dataset_dir().iterdir()) == []


def test_mirror_replaces_every_other_source(server, monkeypatch, tmp_path, sample):
    monkeypatch.setattr(d4rl, "OFFICIAL", server.url.removeprefix("http://") + "/official/")
    monkeypatch.setenv("SYNTHER_D4RL_MIRROR", server.url + "/mine/")
    with pytest.raises(DownloadError, match="404"):
        d4rl.locate("hopper-random-v2")
    server.files["/mine/hopper_random-v2.hdf5"] = sample
    assert d4rl.locate("hopper-random-v2").read_bytes() == sample
    assert {path for path, _ in server.requests} == {"/mine/hopper_random-v2.hdf5"}


@pytest.mark.parametrize("prefix", ["", "file://"])
@pytest.mark.usefixtures("unreachable")
def test_mirror_may_be_a_folder_whose_file_is_used_in_place(monkeypatch, tmp_path, sample, prefix):
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv("SYNTHER_D4RL_MIRROR", prefix + str(folder))
    with pytest.raises(DownloadError, match="no such file"):
        d4rl.locate("hopper-random-v2")
    (folder / "hopper_random-v2.hdf5").write_bytes(sample)
    assert d4rl.locate("hopper-random-v2") == folder / "hopper_random-v2.hdf5"


@pytest.mark.usefixtures("unreachable")
def test_no_network_names_the_three_things_a_person_can_do(tmp_path):
    with pytest.raises(DownloadError) as caught:
        d4rl.locate("hopper-random-v2")
    message = str(caught.value)
    by_hand, mirror, local = message.splitlines()[-3:]
    assert "/gym_mujoco_v2/hopper_random-v2.hdf5" in by_hand
    assert str(tmp_path / "d4rl" / "hopper_random-v2.hdf5") in by_hand
    assert "SYNTHER_D4RL_MIRROR" in mirror
    assert ".npz" in local
    assert "ships" in local
    assert message.count("refused") == 3, "each source says why it failed"
    assert not any(tmp_path.rglob("*.part"))

"""Reading V-D4RL: both forms, memory mapping, and every way a file can be bad."""

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from synther.datasets import DatasetNotFoundError
from synther.datasets.vd4rl import find_vd4rl, read_vd4rl, write_vd4rl
from synther.datasets.vd4rl_files import KEYS
from synther.transitions import TransitionError
from tests.pixels.helpers import SIZE, columns, data_set


def compressed(path: Path, arrays: dict, **options: object) -> Path:
    """As V-D4RL's own files are written."""
    with h5py.File(path, "w") as file:
        for key in KEYS:
            file.create_dataset(key, data=arrays[key], **{"compression": "gzip", **options})
    return path


def test_a_written_set_reads_back_mapped_into_memory(tmp_path: Path) -> None:
    arrays = columns()
    path = write_vd4rl(tmp_path / "a.hdf5", arrays, {"env_id": "walker-walk-v0"})
    read = read_vd4rl([path])
    assert isinstance(read.images[0], np.memmap)
    assert np.array_equal(read.images[0], arrays["observation"])
    assert read.starts.tolist() == [0] * 9 + [9] * 2 + [11] * 7
    assert (read.episodes, read.image_size, len(read)) == (3, 24, 18)
    assert read.metadata["env_id"] == "walker-walk-v0"
    for key, found in (("action", read.actions), ("reward", read.rewards)):
        assert np.array_equal(found, arrays[key])


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_compressed_pictures_are_decoded_into_memory_or_into_a_mapped_file(
    tmp_path: Path, memory: int
) -> None:
    arrays = columns((700, 400), size=8)
    path = compressed(tmp_path / "a.hdf5", arrays)
    for _ in range(2):  # decoded, then found decoded
        read = read_vd4rl([path], in_memory_bytes=memory, cache=tmp_path / "cache")
        assert isinstance(read.images[0], np.memmap) == (memory == 0)
        assert np.array_equal(read.images[0], arrays["observation"])
    assert len(list(tmp_path.glob("cache/*.uint8"))) == (memory == 0)


def test_several_files_are_one_set_and_rows_are_gathered_across_them(tmp_path: Path) -> None:
    parts = [columns((5, 4), seed=seed) for seed in range(3)]
    files = [write_vd4rl(tmp_path / f"{i}.hdf5", part, {}) for i, part in enumerate(parts)]
    read = read_vd4rl(files)
    everything = np.concatenate([part["observation"] for part in parts])
    rows = np.array([[26, 0, 8], [9, 9, 17]])
    assert np.array_equal(read.gather(rows), everything[rows])
    assert read.starts[9:18].tolist() == [9] * 5 + [14] * 4


def pixels_64(root: Path, arrays: dict, number: int = 2) -> list[Path]:
    """Files of 64 pixels, each with the same episode."""
    folder = root / "main" / "walker_walk" / "medium" / "64px"
    folder.mkdir(parents=True)
    length = len(arrays["observation"])
    for file in range(number):
        np.savez_compressed(
            folder / f"{file}.npz",
            image=arrays["observation"].transpose(0, 2, 3, 1),
            is_first=np.arange(length) == 0,
            **{key: arrays[key] for key in ("action", "reward", "discount")},
        )
    return find_vd4rl(root, "walker_walk", "medium", 64)


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_the_64_pixel_form_reads_one_episode_a_file(tmp_path: Path, memory: int) -> None:
    arrays = columns((6,), size=64)
    files = pixels_64(tmp_path, arrays)
    read = read_vd4rl(files, in_memory_bytes=memory)
    assert np.array_equal(read.gather(np.arange(6, 12)), arrays["observation"])
    assert read.starts.tolist() == [0] * 6 + [6] * 6
    assert all(isinstance(each, np.memmap) == (memory == 0) for each in read.images)


def test_pictures_of_64_pixels_beyond_the_limit_are_never_all_in_memory(tmp_path: Path) -> None:
    files = pixels_64(tmp_path, columns((100,), size=64), number=8)
    one = 100 * 3 * 64 * 64
    tracemalloc.start()
    try:
        read = read_vd4rl(files, in_memory_bytes=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(read) == 800
    assert peak < 6 * one


def test_damaged_pictures_of_64_pixels_are_named(tmp_path: Path) -> None:
    path = pixels_64(tmp_path, columns((60,), size=64), number=1)[0]
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(TransitionError, match=r"0\.npz: not a readable \.npz"):
        read_vd4rl([path])


def test_a_set_that_is_not_there_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"humanoid_walk/expert/84px.*v-d4rl.*collect"):
        find_vd4rl(tmp_path, "humanoid_walk", "expert")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_a_half_downloaded_file_is_named(tmp_path: Path, share: float, kind: str) -> None:
    path, arrays = tmp_path / "a.hdf5", columns((60,))
    if kind == "plain":
        write_vd4rl(path, arrays, {})
    else:
        compressed(path, arrays)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(TransitionError, match=r"a\.hdf5.*fetch it again"):
        read_vd4rl([path])


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a.hdf5", columns((60,)))
    with h5py.File(path) as file:
        chunk = file["observation"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(TransitionError, match=r"a\.hdf5.*damaged"):
        read_vd4rl([path])


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_what_is_not_hdf5_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.hdf5").write_bytes(content)
    with pytest.raises(TransitionError, match="not an HDF5 file"):
        read_vd4rl([tmp_path / "a.hdf5"])


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("step_type", lambda x: np.where(np.arange(len(x)) == 4, 0, x), "row 4"),
        ("step_type", lambda x: np.where(np.arange(len(x)) == 0, 1, x), "row 0"),
        ("step_type", lambda x: np.where(np.arange(len(x)) == 8, 1, x), "row 9"),
        ("step_type", lambda x: x + 0.5, "'step_type' in row 0 is 0.5"),
        ("reward", lambda x: np.where(np.arange(len(x)) == 5, np.nan, x), "'reward' is not finite"),
        ("reward", lambda x: x[:-1], "'reward' has shape"),
        ("action", lambda x: x[:, 0], "'action' has shape"),
        ("observation", lambda x: x.astype(np.float32), "expected uint8"),
        ("observation", lambda x: x[:, :1], "expected uint8"),
    ],
)
def test_wrong_contents_are_named(tmp_path: Path, key: str, change: object, message: str) -> None:
    arrays = columns()
    arrays[key] = change(arrays[key])  # type: ignore[operator]
    with pytest.raises(TransitionError, match=message):
        read_vd4rl([write_vd4rl(tmp_path / "a.hdf5", arrays, {})])


def test_missing_arrays_links_and_other_files_are_refused(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a.hdf5", columns())
    with h5py.File(path, "a") as file:
        del file["reward"]
    with pytest.raises(TransitionError, match="missing reward"):
        read_vd4rl([path])
    with h5py.File(path, "a") as file:
        file["reward"] = h5py.ExternalLink("b.hdf5", "reward")
    compressed(tmp_path / "b.hdf5", columns())
    with pytest.raises(TransitionError, match="'reward' is not an array of this file"):
        read_vd4rl([path])
    with pytest.raises(FileNotFoundError, match="v-d4rl"):
        read_vd4rl([tmp_path / "none.hdf5"])


def test_files_of_different_sets_are_refused(tmp_path: Path) -> None:
    files = [
        write_vd4rl(tmp_path / f"{actions}.hdf5", columns(actions=actions), {})
        for actions in (1, 2)
    ]
    with pytest.raises(TransitionError, match="different sets"):
        read_vd4rl(files)


def test_find_lists_the_files_of_a_set(tmp_path: Path) -> None:
    path = data_set(tmp_path)
    assert find_vd4rl(tmp_path, "a_b", "mixed", SIZE) == [path]

"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from synther.files.atomic import atomic_write, expanded, write_text


def test_the_file_is_there_only_after_the_block(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old: ä")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text(encoding="utf-8") == "old: ä"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_without_a_home_says_what_to_do() -> None:
    """Nobody of that name has one, as nobody has in a container without a user."""
    assert expanded("data/x.npz") == Path("data/x.npz")
    assert expanded("~/x.npz") == Path.home() / "x.npz"
    with pytest.raises(FileNotFoundError, match=r"no home directory for ~ .*; give the whole"):
        expanded("~nobody-of-that-name/x.npz")
    with pytest.raises(FileNotFoundError, match="set FOLDER"):
        expanded("~nobody-of-that-name/x.npz", "set FOLDER")

"""No command's file takes the place of data: its input, others' files, more rows of its kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synther.datasets.hdf5_writer import write_hdf5
from synther.datasets.outputs import Kind, require_other_file, require_replaceable
from synther.errors import InputError
from tests.data import random_transitions

SAID: dict[Kind, dict[str, str]] = {
    "samples": {"source": "SynthER"},
    "latents": {"source": "pixels"},
    "replay": {"command": "python3 synther/online/online_exp.py --env Pendulum-v1"},
}


def test_the_input_is_known_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_transitions(6).save(tmp_path / "mine.npz")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.npz").symlink_to(data)
    (tmp_path / "twin.npz").hardlink_to(data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("mine.npz", "folder/../mine.npz", "link.npz", "twin.npz", str(data)):
        for read in ("mine.npz", "~/mine.npz", data):
            with pytest.raises(InputError, match="choose another --output"):
                require_other_file(name, "--output", [read])
    require_other_file("new.npz", "--output", ["mine.npz", "hopper-demo-v0", "no-such.npz"])


@pytest.mark.parametrize("kind", SAID)
def test_as_many_rows_of_the_kind_are_replaced_and_more_are_not(kind: Kind, tmp_path: Path) -> None:
    rows = replace(random_transitions(6), metadata=SAID[kind])
    paths = [rows.save(tmp_path / "there.npz")]
    if kind == "replay":
        none = np.zeros(6, bool)
        paths.append(write_hdf5(tmp_path / "there.hdf5", rows, none))
    for path in paths:
        require_replaceable(path, "--output", kind, 6)
        with pytest.raises(InputError, match=r"there.*: holds 6 .*, and 5 would"):
            require_replaceable(path, "--output", kind, 5)
        for other in SAID.keys() - {kind}:
            with pytest.raises(InputError, match=r"holds no .* that"):
                require_replaceable(path, "--output", other, 6)


@pytest.mark.parametrize("name", ["notes.npz", "notes.hdf5"])
def test_what_cannot_be_read_is_somebody_s(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("what I noted")
    with pytest.raises(InputError, match=f"--output .*{name}: is there already"):
        require_replaceable(tmp_path / name, "--output", "samples", 10)
    with pytest.raises(InputError, match="is a folder"):
        require_replaceable(tmp_path, "--output", "samples", 10)
    require_replaceable(tmp_path / "new.npz", "--output", "samples", 10)

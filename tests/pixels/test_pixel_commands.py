"""The commands start as files and as a module, from any folder."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [
        ["synther/pixels/drq_bc.py"],
        pytest.param(["synther/pixels/encode.py"], marks=pytest.mark.slow),
        pytest.param(["-m", "synther.pixels.collect"], marks=pytest.mark.slow),
    ],
)
def test_commands_start_from_anywhere(command: list[str], tmp_path: Path) -> None:
    words = command if command[0] == "-m" else [str(ROOT / command[0])]
    done = subprocess.run(
        [sys.executable, *words, "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_no_file_beside_a_command_hides_a_module() -> None:
    # Starting a file puts its folder first on sys.path.
    installed = set(importlib.metadata.packages_distributions()) | set(sys.stdlib_module_names)
    for path in (ROOT / "synther" / "pixels").glob("*.py"):
        assert path.stem == "__init__" or path.stem not in installed, path

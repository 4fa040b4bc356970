"""Examples, benchmarks and drawings say what they are for when asked, and do nothing else."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = {"guided_study_rows", "help_results", "help_shown", "job_parts", "plain_agents", "products",
         "row_quality_results", "studies"}  # fmt: skip
"""Files that others import, and nobody starts."""
FILES = [
    path
    for folder in ("examples", "benchmarks", "figs")
    for path in sorted((ROOT / folder).glob("*.py"))
    if path.stem not in PARTS
]
LIBRARIES = {
    "sb3_sac": "stable_baselines3",
    "d3rlpy_td3_bc": "d3rlpy",
    "minari_dataset": "minari",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_help_is_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if (library := LIBRARIES.get(path.stem)) and importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(path.parent))  # as Python has it for a file that it starts
    monkeypatch.setattr("sys.argv", [str(path), "--help"])
    code: object = 0
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        code = end.code
    assert not code
    shown = capsys.readouterr().out
    # Before it some libraries greet.
    usage, described = shown[shown.index("usage: ") :].split("\n\n", 1)
    assert len(usage.splitlines()) < 30
    assert len(described.split("\n\n")[0]) > 20  # a sentence on what it does
    assert shown.endswith("\n")
    assert not list(tmp_path.iterdir())


def test_the_parts_are_there_and_start_nothing() -> None:
    for name in PARTS:
        assert "__main__" not in (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")

"""The examples run as they are written, and stay short."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# What an example needs beside the core, and what it says in the end.
SCRIPTS = {
    "upsample_your_data": ((), r"look like held-out real rows.*law of motion by 0\.[01]\d+"),
    "cleanrl_style_sac": ((), r"returns of the first and the last five episodes"),
    "sb3_sac": (("stable_baselines3",), r"return after 3900 steps: -\d+"),
    "d3rlpy_td3_bc": (("d3rlpy", "mujoco"), r"mean return of TD3\+BC in Hopper-v2: \d+"),
    "minari_dataset": (("minari",), r"synthetic-v0: 2000 steps, 2000 episodes"),
}


def test_every_example_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SCRIPTS, "demo"}


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "cleanrl_style_sac"])
def test_an_example_with_a_library_is_40_lines_at_most(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    needed, expected = SCRIPTS[name]
    for library in needed:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"needs {library}")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "500"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(expected, done.stdout, re.DOTALL), done.stdout

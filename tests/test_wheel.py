"""A wheel holds all that the commands need, and they find it from an empty folder.

``make wheel-check`` does more, with whole runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the installed wheel's Python in an empty folder, and returns what it says."""
    source, target, empty = (tmp_path_factory.mktemp(name) for name in ("source", "site", "empty"))
    for folder in ("synther", "config"):
        no_cache = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=no_cache)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-deps", "--no-index"]
    dist = source / "dist"
    subprocess.run(
        [*pip, "wheel", *offline, "--no-build-isolation", "-w", str(dist), str(source)], check=True
    )
    (wheel,) = dist.glob("synther-*.whl")
    subprocess.run([*pip, "install", *offline, "--target", str(target), str(wheel)], check=True)

    def python(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(target), "COLUMNS": "500"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return python


def test_every_shipped_file_is_found_by_the_name_that_a_checkout_has(run: Run) -> None:
    names = [
        *(ROOT / "config").rglob("*.gin"),
        *(ROOT / "config").rglob("*.yaml"),
        *(ROOT / "synther/corl/yaml").rglob("*.yaml"),
    ]
    script = f"""
import synther.installed as installed
assert installed.CHECKOUT is None
for name in {[str(path.relative_to(ROOT)) for path in names]!r}:
    assert installed.shipped(name).is_file(), name
    assert str(installed.shipped(name)).startswith(str(installed.PACKAGE))
script = installed.script("synther/sweep.py")
assert script == str(installed.PACKAGE / "sweep.py")
from pathlib import Path
assert installed.name_of(Path(script)) == "synther/sweep.py"
assert installed.name_of(Path("/elsewhere/a.py")) == "/elsewhere/a.py"
"""
    assert len(names) > 50
    run("-c", script)


def test_gin_files_and_settings_are_read_from_an_empty_folder(run: Run) -> None:
    script = """
from synther.online import online_exp
from synther.runs import gin_config
from synther.runs.settings import read_mapping
gin_config.parse(["config/online/sac_synther_dmc_small.gin"])
print(read_mapping("synther/corl/yaml/td3_bc/hopper/medium_replay_v2.yaml")["env"])
"""
    assert run("-c", script).strip() == "hopper-medium-replay-v2"


def test_a_study_is_planned(run: Run) -> None:
    said = run("-m", "synther", "sweep", "--study", "config/sweeps/tiny.yaml", "--dry_run")
    commands = [line.split()[1] for line in said.splitlines() if line.strip().startswith("python3")]
    assert len(commands) == 11
    assert all(Path(command).is_file() for command in commands)
    assert not any(Path(command).is_relative_to(ROOT) for command in commands)


def test_what_to_install_names_the_wheel_and_no_index(run: Run) -> None:
    hint = run("-c", "from synther.installed import install_hint; print(install_hint('envs'))")
    assert hint.startswith("pip install 'synther[envs] @ file://")
    assert hint.strip().endswith(".whl'")


def test_what_to_install_names_the_packages_where_nobody_knows_the_origin(run: Run) -> None:
    script = """
from synther import installed
installed._origin = lambda distribution: None
print(installed.install_hint("envs"))
"""
    hint = run("-c", script)
    assert hint.startswith("pip install 'mujoco")
    assert "synther" not in hint
    assert "dm_control" in hint.replace("-", "_")
    assert "ray" not in hint


@pytest.mark.parametrize("form", ["git", "folder"])
def test_the_origin_is_a_repository_or_a_folder(form: str) -> None:
    from synther.installed import _origin

    class Distribution:
        def read_text(self, name: str) -> str:
            assert name == "direct_url.json"
            if form == "git":
                return (
                    '{"url": "https://host/synther.git",'
                    ' "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}'
                )
            return '{"url": "file:///home/me/synther", "dir_info": {}}'

    expected = {"git": "git+https://host/synther.git@c0ffee", "folder": "file:///home/me/synther"}
    assert _origin(Distribution()) == expected[form]

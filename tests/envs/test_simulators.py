import os
import subprocess
import sys

import pytest

from synther.envs import simulators

BLOCKED = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
import synther.envs
modules = [m.name for m in pkgutil.iter_modules(synther.envs.__path__, "synther.envs.")]
for name in modules:
    importlib.import_module(name)
assert len(modules) > 5, modules
assert synther.envs.env_id_of("hopper-medium-v2") == "Hopper-v2"
assert synther.envs.reference_scores("hopper-medium-v2") is not None
try:
    synther.envs.make_env("Hopper-v2")
except synther.envs.MissingSimulatorError as error:
    print(error)
"""


def run(code: str, **environment: str) -> str:
    env = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env | environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "missing", [("gymnasium", "mujoco", "dm_control", "shimmy"), ("mujoco", "dm_control", "shimmy")]
)
def test_everything_imports_without_a_simulator_and_says_what_to_install(
    missing: tuple[str, ...],
) -> None:
    """gymnasium is of the core, and turns a missing mujoco into an error of its own."""
    output = run(f"MISSING = {missing}\n{BLOCKED}")
    assert f"'{missing[0]}', which is not installed: pip install 'synther[envs]'" in output


def test_importing_the_package_imports_no_simulator() -> None:
    code = """
import sys, synther.envs
print([m for m in ("gymnasium", "mujoco", "dm_control") if m in sys.modules])
"""
    assert run(code).strip() == "[]"


@pytest.mark.parametrize(
    ("library", "display", "expected"),
    [("libEGL.so.1", None, "egl"), (None, None, "disabled"), (None, ":0", None)],
)
def test_a_headless_machine_gets_a_renderer(
    monkeypatch: pytest.MonkeyPatch, library: str | None, display: str | None, expected: str | None
) -> None:
    for name, value in {"MUJOCO_GL": None, "DISPLAY": display}.items():
        monkeypatch.setenv(name, "")  # so that whatever is written is undone afterwards
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(simulators, "find_library", lambda name: library)
    monkeypatch.setattr(simulators.sys, "platform", "linux")
    simulators.require("json")
    assert os.environ.get("MUJOCO_GL") == expected


def test_osmesa_draws_where_egl_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.delenv("MUJOCO_GL")
    found = {"OSMesa": "libOSMesa.so.8"}
    monkeypatch.setattr(simulators, "find_library", found.get)
    monkeypatch.setattr(simulators.sys, "platform", "linux")
    simulators.require("json")  # any environment may come before the first that is drawn
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_a_chosen_renderer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    simulators.require("json")
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_a_package_missing_inside_a_simulator_is_named() -> None:
    with pytest.raises(simulators.MissingSimulatorError, match="'no_such_simulator'"):
        simulators.require("no_such_simulator.envs")

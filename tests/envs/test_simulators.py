import os
import re
import subprocess
import sys

import gymnasium
import pytest

from synther.envs import make_env, simulators

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
    assert f"'{missing[0]}', which is not installed: pip install -e '.[envs]'" in output


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


@pytest.mark.parametrize("renderer", ["osmesa", "glx"])
@pytest.mark.parametrize("name", ["Hopper-v2", "cheetah-run-v0"])
def test_runs_that_draw_nothing_need_no_renderer(renderer: str, name: str) -> None:
    """Of a library that is not installed, or with a name that MuJoCo does not know."""
    code = f"""
import warnings, os
from ctypes.util import find_library
os.environ["MUJOCO_GL"] = {renderer!r}
if {renderer!r} == "osmesa" and find_library("OSMesa"):
    print("drawn")
else:
    from synther.envs import make_env
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        env = make_env({name!r})
    env.reset(seed=0)
    print(*{{str(each.message) for each in said if "MUJOCO_GL" in str(each.message)}})
"""
    output = run(code).strip()
    expected = (
        rf"MUJOCO_GL={renderer}: this renderer does not load \(.+\); nothing can be drawn, .*"
    )
    if output not in ("drawn", ""):  # Hopper asks for a renderer only where it draws
        assert re.fullmatch(expected, output)
    assert output or name == "Hopper-v2"


def test_what_an_environment_lacks_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks() -> None:
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed, install it")

    monkeypatch.setitem(
        gymnasium.registry, "Lacks-v0", gymnasium.envs.registration.EnvSpec("Lacks-v0", lacks)
    )
    with pytest.raises(simulators.MissingSimulatorError, match="Lacks-v0: Box2D is not installed"):
        make_env("Lacks-v0")

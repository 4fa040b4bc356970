"""What the long checks of .ci are given is what setup.py says."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def versions(text: str, relation: str) -> dict[str, str]:
    """Lower-case name -> version of requirements such as ``numpy>=1.26``."""
    found = re.findall(rf"^\W*([A-Za-z][\w.-]*)(?:\[\w+\])?{relation}([\d.]+)", text, re.MULTILINE)
    return {name.lower(): version for name, version in found}


def test_lower_bounds_are_those_of_setup_py() -> None:
    setup = (ROOT / "setup.py").read_text().replace('"', '\n"')
    admitted = versions(setup, ">=")
    pinned = versions((ROOT / ".ci" / "lower-bounds.txt").read_text(), "==")
    core = setup.split("EXTRAS")[0]
    assert versions(core, ">=").keys() <= pinned.keys()
    for name, version in pinned.items():
        oldest = admitted.get(name, version)  # two are none of ours
        # A bound of 1.26 is met first by 1.26.0, or by the first of its releases there is.
        assert version == oldest or version.startswith(f"{oldest}."), (name, version, oldest)


def test_every_extra_is_tried_in_an_environment_of_its_own() -> None:
    setup = (ROOT / "setup.py").read_text()
    extras = set(re.findall(r'^    "(\w+)": \[', setup, re.MULTILINE))
    script = (ROOT / ".ci" / "extras.sh").read_text()
    (listed,) = re.findall(r"^all=\((.*)\)$", script, re.MULTILINE)
    cases = set(re.findall(r"^    (\w+)\) install", script, re.MULTILINE))
    assert "sb3" in extras
    assert set(listed.split()) == cases == extras - {"dev", "legacy"} | {"core"}


@pytest.mark.parametrize("status", [0, 3])
def test_elsewhere_tries_three_machines_and_stops_at_the_first_failure(status: int) -> None:
    """Its busy loops hold the pipe too: that it closes says that they have ended."""
    told = f'echo "= $ATEN_CPU_CAPABILITY $MKL_ENABLE_INSTRUCTIONS"; exit {status}'
    done = subprocess.run(
        ["bash", str(ROOT / ".ci" / "elsewhere.sh"), "sh", "-c", told],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    found = re.findall(r"^= (.*)$", done.stdout, re.MULTILINE)
    assert found == (["default ", "avx2 AVX2", " "] if status == 0 else ["default "])


def test_the_version_is_the_same_everywhere() -> None:
    init = (ROOT / "synther" / "__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"$', init, re.MULTILINE)
    cited = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited == [version]
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_release_is_tried_on_every_python_that_the_package_is_for() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    tried = workflow["jobs"]["wheel"]["strategy"]["matrix"]["python"]
    setup = (ROOT / "setup.py").read_text()
    (first, end) = map(int, re.findall(r"range\((\d+), (\d+)\)", setup)[0])
    assert tried == [f"3.{minor}" for minor in range(first, end)]
    assert f'python_requires=">={tried[0]}"' in setup
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(".ci/wheel.sh" in step for step in steps)

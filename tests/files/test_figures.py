"""Pictures are written into files whatever backend the surroundings name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import os
{before}
from synther.files.figures import Figure
Figure().savefig(os.devnull, format="png")
import matplotlib
print(os.environ["MPLBACKEND"], matplotlib.rcParams._get("backend"))
"""


@pytest.mark.parametrize(
    ("backend", "used"), [("module://no_such_package.backend_inline", None), ("svg", "svg")]
)
def test_a_backend_that_is_not_installed_is_not_asked_for(backend: str, used: str | None) -> None:
    """A notebook hands the name of its own on to every process that it starts."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(before="")],
        env=os.environ | {"MPLBACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    asked, chosen = done.stdout.split()
    assert asked == backend  # for other processes
    if used:
        assert chosen == used


def test_matplotlib_that_is_there_already_is_left_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(before="import matplotlib; matplotlib.use('pdf')")],
        env=os.environ | {"MPLBACKEND": "svg"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["svg", "pdf"], done.stderr

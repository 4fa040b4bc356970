"""This module says where SynthER is installed, which files came with it, and how to add an extra.

A checkout has the gin files and studies in ``config/``, beside the package; a wheel installs that
folder as ``synther.config``. Users type one name for both: ``config/online/sac.gin``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
"""The folder of the package."""
CHECKOUT: Path | None = None if (PACKAGE / "config").is_dir() else PACKAGE.parent
"""The repository's root; None where SynthER was installed from a wheel."""


def shipped(name: str | os.PathLike[str]) -> Path:
    """Where a file lies that came with SynthER, whether it is there or not.

    Args:
        name: the file's name from the root of the repository, ``config/online/sac.gin`` or
            ``synther/corl/yaml/...``; an absolute path stands for itself.
    """
    path = Path(name)
    if path.is_absolute() or CHECKOUT:
        return (CHECKOUT or PACKAGE) / path
    return PACKAGE.joinpath(*path.parts[1:]) if path.parts[:1] == ("synther",) else PACKAGE / path


def name_of(path: Path) -> str:
    """The name by which :func:`shipped` finds a file; of another file, its whole path."""
    root = CHECKOUT or PACKAGE
    if not path.is_relative_to(root):
        return str(path)
    inside = path.relative_to(root)
    return str(inside if CHECKOUT else Path("synther") / inside)


def script(name: str) -> str:
    """What follows ``python3`` on a command line that starts a script of that name: in a checkout,
    whose root such commands run in, the name itself, and for a wheel the whole path."""
    return name if CHECKOUT else str(shipped(name))


def install_hint(extra: str) -> str:
    """The command that adds an extra to this installation.

    It never asks the package index for a project called ``synther``: nobody vouches for what would
    come. It names this checkout, or the file or the repository that pip installed SynthER from;
    where pip did not write that down, it names the packages of the extra.

    Args:
        extra: a key of ``EXTRAS`` in ``setup.py``, such as ``envs``.
    """
    if CHECKOUT:
        here = "." if Path.cwd() == CHECKOUT else str(CHECKOUT)
        return f"pip install -e {_quoted(f'{here}[{extra}]')}"
    try:
        distribution = importlib.metadata.distribution("synther")
    except importlib.metadata.PackageNotFoundError:
        return f"install the packages of the extra {extra} in setup.py"
    if origin := _origin(distribution):
        return f"pip install {_quoted(f'synther[{extra}] @ {origin}')}"
    needed = re.compile(rf"(?P<package>[^;]+);.*\bextra == ['\"]{re.escape(extra)}['\"]")
    found = filter(None, map(needed.match, distribution.requires or ()))
    return " ".join(["pip install", *(_quoted(match["package"].strip()) for match in found)])


def _origin(distribution: importlib.metadata.Distribution) -> str | None:
    """The address that pip installed the distribution from, as pip takes it; see PEP 610."""
    text = distribution.read_text("direct_url.json")
    found = json.loads(text) if text else {}
    url: str | None = found.get("url")
    version_control = found.get("vcs_info")
    if url and version_control:
        return f"{version_control['vcs']}+{url}@{version_control['commit_id']}"
    return url


def _quoted(word: str) -> str:
    return f"'{word}'" if "'" not in word else shlex.quote(word)

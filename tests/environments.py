"""Environments of the tests' own, in gymnasium's registry for as long as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium


def register(kind: type[gymnasium.Env[Any, Any]], **settings: Any) -> str:
    """The id under which it is registered, ``{class}-v0``; ``settings`` are gymnasium's.

    Raises:
        ValueError: the id is taken. The tests of a process share one registry: a second class of a
            name would take the first one's place, or take it away, as their order has it.
    """
    name = f"{kind.__name__}-v0"
    if name in gymnasium.registry:
        raise ValueError(f"{name} is registered already: give {kind.__qualname__} another name")
    gymnasium.register(name, kind, disable_env_checker=True, **settings)
    return name


@contextmanager
def registered(*kinds: type[gymnasium.Env[Any, Any]], **settings: Any) -> Iterator[list[str]]:
    """Their ids, until the block ends."""
    names = [register(kind, **settings) for kind in kinds]
    yield names
    for name in names:
        del gymnasium.registry[name]

"""A griffe extension and a hook of mkdocs: roles of docstrings, such as :func:, become links.

A role names an object as its docstring sees it, a member of the class, a name of the module, or
with all its packages. A name that the site has no page for is shown without a link.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import griffe
from mkdocs.exceptions import PluginError

ROLE = re.compile(r":(?:func|class|mod|meth|attr|data|obj|exc):`(~?)([^`]+)`")

RAW = re.compile(r":(?:func|class|mod|meth|attr|data|obj|exc):(?=<code>|`|&#96;)")


class Roles(griffe.Extension):
    """Rewrites the docstrings of a package once all of its modules are read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called by griffe."""
        visit(pkg)


def visit(where: griffe.Object) -> None:
    """Rewrite the docstrings of an object and of what lies in it."""
    if where.docstring is not None:
        where.docstring.value = with_links(where.docstring.value, lambda name: place(name, where))
    for member in where.members.values():
        if isinstance(member, griffe.Object):  # and no alias, which is imported from elsewhere
            visit(member)


def with_links(text: str, place: Callable[[str], str | None]) -> str:
    """A docstring with links, or plain code, for its roles."""

    def shown(match: re.Match[str]) -> str:
        short, name = match[1], " ".join(match[2].split())
        identifier = place(name)
        label = f"`{name.rsplit('.', 1)[-1] if short else name}`"
        if identifier is None:
            return label
        return f'<autoref optional identifier="{identifier}">{label}</autoref>'

    return ROLE.sub(shown, text)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Called by mkdocs: a role that has come through ends the build."""
    if left := RAW.search(output):
        raise PluginError(f"{page.file.src_uri}: {left[0]} is no link and no code")
    return output


def place(name: str, where: griffe.Object) -> str | None:
    """The full path of a name in a docstring; None where nothing is called so."""
    scope: griffe.Object | None = where
    head, _, rest = name.partition(".")
    while scope is not None:
        if head in scope.members:
            path = scope.members[head]
            full = path.target_path if isinstance(path, griffe.Alias) else path.path
            return f"{full}.{rest}" if rest else full
        scope = scope.parent
    return name if head == "synther" else None

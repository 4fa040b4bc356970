"""A dataclass of settings becomes flags, with a line of help for each of its keys.

The line is the comment beside the field. ``GROUPS`` of the dataclass, where it has them, names the
first key of each group of flags, and the group's title.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin

from pyrallis.wrappers import docstring

from synther.runs.command_line import SYNONYMS, CommandParser
from synther.runs.settings import as_dict, types_of

METAVARS = {bool: "true|false", int: "N", float: "X", str: "TEXT"}


def flags_of(
    config_class: type,
    description: str,
    example: str = "",
    synonyms: Sequence[Sequence[str]] = SYNONYMS,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> CommandParser:
    """A parser with ``--config FILE`` and a flag for each key. What is not given is not in its
    namespace, whose ``vars`` :func:`synther.runs.settings.configured` takes. ``defaults`` are the
    command's, where they are not the configuration's."""
    parser = CommandParser(
        description,
        example,
        synonyms=synonyms,
        argument_default=argparse.SUPPRESS,
        usage="%(prog)s [--config FILE] [--KEY VALUE ...]",
    )
    parser.add_argument("--config", metavar="FILE", help="a YAML file with the same keys")
    shown, lines = {**as_dict(config_class()), **defaults}, comments_of(config_class)
    for title, kinds in _grouped(config_class).items():
        group = parser.add_argument_group(title)
        for key, kind in kinds.items():
            inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
            several: dict[str, Any] = {"nargs": "*"} if inner is not kind else {}
            bare: dict[str, Any] = {"nargs": "?", "const": "true"} if kind is bool else {}
            group.add_argument(
                f"--{key}",
                dest=key,
                metavar=_metavar(inner),
                help=f"{lines[key]} (default: {_shown(shown[key])})".lstrip().replace("%", "%%"),
                **several,
                **bare,
            )
    return parser


def comments_of(config_class: type) -> dict[str, str]:
    """The comment beside the field of each flat key."""
    found: dict[str, str] = {}
    for each in dataclasses.fields(config_class):
        kind = each.default_factory
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            inner = comments_of(kind)
            found.update({f"{each.name}.{key}": text for key, text in inner.items()})
        else:
            text = docstring.get_attribute_docstring(config_class, each.name).comment_inline
            found[each.name] = text or _inherited(config_class, each.name)
    return found


def _inherited(config_class: type, name: str) -> str:
    """The comment that a base has beside the field; a class may change the default alone."""
    for base in config_class.__mro__[1:]:
        if name in getattr(base, "__annotations__", {}):
            text: str = docstring.get_attribute_docstring(base, name).comment_inline
            if text:
                return text
    return ""


def _grouped(config_class: type) -> dict[str, dict[str, Any]]:
    """The annotation of each flat key, by the title of its group, own keys before a base's."""
    titles: Mapping[str, str] = getattr(config_class, "GROUPS", {})
    base = next((each for each in config_class.__mro__[1:] if hasattr(each, "GROUPS")), None)
    shared = types_of(base) if base else {}
    kinds, own = types_of(config_class), f"keys of {getattr(config_class, 'name', '')}"
    groups: dict[str, dict[str, Any]] = {own: {}} if base else {}
    title = "keys"
    for key, kind in kinds.items():
        title = titles.get(key, title)
        groups.setdefault(own if base and key not in shared else title, {})[key] = kind
    return groups


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if get_origin(kind) in (Union,) or hasattr(kind, "__args__"):
        return _metavar(get_args(kind)[0])
    return METAVARS[kind]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)

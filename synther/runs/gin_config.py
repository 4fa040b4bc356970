"""Gin files are found from any folder, and read with errors that name what was probably meant."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
from gin import config_parser

from synther import ranges
from synther.errors import InputError
from synther.files.atomic import expanded
from synther.installed import shipped
from synther.suggestions import did_you_mean

_INCLUDE = re.compile(r"^include\s+(['\"])(?P<path>.+?)\1\s*(#.*)?$", re.MULTILINE)
_UNKNOWN_CONFIGURABLE = re.compile(r"No configurable matching (?:reference )?'@?([\w./]+)")
_UNKNOWN_PARAMETER = re.compile(r"Configurable '([\w./]+)' doesn't have a parameter named '(\w+)'")


class GinError(InputError):
    """A gin file or binding that cannot be used; the message says which and why."""


def parse(
    files: Sequence[str | os.PathLike[str]] = (),
    bindings: Iterable[str] = (),
    *,
    clear: bool = True,
) -> None:
    """Set gin's global configuration. For commands only; import the configurables first.

    Args:
        files: later ones win. A relative path is looked for in the working directory, then
            among the files that came with SynthER; an ``include`` in the including file's folder,
            then in those two.
        bindings: such as ``Trainer.train_num_steps = 2000``; they win over the files.
        clear: forget what was configured before, so that a process can parse twice.

    Raises:
        GinError: a file that is not there, a syntax error, or an unknown name, with near ones.
    """
    if clear:
        gin.clear_config()
    with gin.unlock_config():
        for file in files:
            path = find(file)
            _parse_text(read(path), str(path))
        for binding in bindings:
            _parse_text(binding, f"binding '{binding}'")


def find(file: str | os.PathLike[str], beside: Path | None = None) -> Path:
    """The path of a gin file, see :func:`parse`."""
    path = expanded(file)
    folders = [beside] if beside else []
    candidates = [*(folder / path for folder in (*folders, Path.cwd())), shipped(path)]
    for candidate in candidates:  # an absolute path stands for itself in each of them
        if os.path.isfile(candidate):  # False, and no error, for names that no file can have
            return candidate.resolve()
    tried = ", ".join(dict.fromkeys(str(candidate) for candidate in candidates))
    raise GinError(f"gin file '{file}' is not there; looked for {tried}")


def read(path: Path, including: tuple[Path, ...] = ()) -> str:
    """The text of a gin file with its includes put in.

    gin's own ``include`` looks in the working directory only, and fails with a TypeError elsewhere.
    """
    if path in including:
        raise GinError(f"gin file '{path}' includes itself")

    def included(match: re.Match[str]) -> str:
        try:
            return read(find(match["path"], beside=path.parent), (*including, path))
        except GinError as error:
            raise GinError(f"{path}: {error}") from error

    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise GinError(f"gin file '{path}' is not text ({error})") from error
    return _INCLUDE.sub(included, text)


def _parse_text(text: str, source: str) -> None:
    try:
        gin.parse_config(text)
    except Exception as error:  # gin raises several kinds, syntax errors among them
        raise GinError(f"{source}: {_explain(str(error))}") from error
    _check_values(source)


def _explain(message: str) -> str:
    first_line = (message.strip().splitlines() or ["it cannot be parsed"])[0]
    if match := _UNKNOWN_PARAMETER.search(message):
        names = _parameters(match[1])
        meant = did_you_mean(match[2], names, most=3, listed=30)
        return f"'{match[1]}' has no parameter '{match[2]}'{meant}"
    if match := _UNKNOWN_CONFIGURABLE.search(message):
        names = [selector.rsplit(".", 1)[-1] for selector, _ in _registry().items()]
        meant = did_you_mean(match[1], names, most=3, listed=30)
        return f"nothing configurable is called '{match[1]}'{meant}"
    if "malformed node" in message:
        return "the value is not a Python literal; text goes in quotes, such as name='text'"
    return first_line


def _check_values(source: str) -> None:
    """Compare what ``source`` has bound, where it is a plain value, with the annotations.

    Without this a wrong value shows in the middle of a run, as an error of something else.
    """
    for (_, selector), bound in getattr(gin.config, "_CONFIG", {}).items():
        annotations = _annotations(selector)
        for name, value in bound.items():
            if not _is_plain(value) or name not in annotations:
                continue
            if expected := ranges.problem(value, annotations[name]):
                short = selector.rsplit(".", 1)[-1]
                raise GinError(f"{source}: {short}.{name} is {value!r:.80}, expected {expected}")


def _is_plain(value: Any) -> bool:
    """Whether a value is no reference to something configurable, and holds none."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str, type(None), dict))


def _annotations(selector: str) -> Mapping[str, Any]:
    try:
        wrapped = _registry().get_match(selector).wrapped
    except (AttributeError, KeyError, ValueError):
        return {}
    return ranges.hints(wrapped.__init__ if inspect.isclass(wrapped) else wrapped)


def _registry() -> Any:
    # Not public in gin, and only used to make an error more helpful.
    return getattr(gin.config, "_REGISTRY", {})


def _parameters(selector: str) -> list[str]:
    try:
        entry = _registry().get_match(selector)
        return [name for name in inspect.signature(entry.wrapper).parameters if name != "self"]
    except (AttributeError, KeyError, ValueError):
        return []


class _Reference(str):
    """``@name``: the name of something configurable, not looked up."""


class _Macro(str):
    """``%name``."""


class _PlainValues(config_parser.ParserDelegate):
    def configurable_reference(self, name: str, evaluate: bool) -> _Reference:
        return _Reference(name)

    def macro(self, name: str) -> _Macro:
        return _Macro(name)


def bindings_of(text: str, source: str = "gin text") -> dict[str, Any]:
    """The bindings of a gin text, ``{'Trainer.train_lr': 3e-4, ...}``; gin's global state stays.

    Macros are put in; a reference ``@Name`` becomes the text ``Name``; a macro itself appears under
    its own name, and a binding of a scope under ``scope/Name.parameter``. Module paths before the
    configurable's name are left out.
    """
    found: dict[str, Any] = {}
    try:
        for statement in config_parser.ConfigParser(text, _PlainValues()):
            if isinstance(statement, config_parser.BindingStatement):
                name = statement.selector.rsplit(".", 1)[-1]
                key = f"{name}.{statement.arg_name}" if statement.arg_name else name
                scope = f"{statement.scope}/" if statement.scope else ""
                found[scope + key] = statement.value
    except (SyntaxError, ValueError, TypeError) as error:
        raise GinError(f"{source}: {str(error).strip().splitlines()[0]}") from error

    def resolved(value: Any, depth: int = 0) -> Any:
        if not isinstance(value, _Macro):
            return str(value) if isinstance(value, _Reference) else value
        name = str(value).removesuffix(".value")
        if name not in found or depth > 20:
            raise GinError(f"{source}: macro %{value} is not defined")
        return resolved(found[name], depth + 1)

    return {key: resolved(value) for key, value in found.items()}

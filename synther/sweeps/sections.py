"""A YAML file is read strictly: every error names the file, the key, and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synther.runs.settings import NAMES, ConfigError, read_mapping
from synther.suggestions import did_you_mean

Scalar = str | int | float | bool


class StudyError(ValueError):
    """A study that cannot be run as it is written; the message is one line."""


def read_yaml(path: str | Path) -> Section:
    """The top of a YAML file.

    Raises:
        StudyError: no such file, not YAML, or not keys and values.
    """
    try:
        return Section(read_mapping(path), str(path), "")
    except ConfigError as error:
        raise StudyError(str(error)) from error


class Section:
    """Keys and values at one place of a file; what is taken is checked, what is left is unknown.

    Args:
        content: what YAML made of it.
        file: for messages.
        place: the keys that lead here, ``offline[0].`` for example; empty at the top.
    """

    def __init__(self, content: Any, file: str, place: str) -> None:
        self.file, self.place = file, place
        if not isinstance(content, dict):
            where = place.rstrip(".") or "the file"
            raise StudyError(f"{file}: {where}: expected keys and values, got {content!r}")
        self.content, self._known = content, set[str]()

    def error(self, key: str, message: str) -> StudyError:
        return StudyError(f"{self.file}: {self.place}{key}: {message}")

    def __contains__(self, key: str) -> bool:
        self._known.add(key)
        return self.content.get(key) is not None

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of ``key``: a bool, an int, a str, or, for float, any number.

        Raises:
            StudyError: it is of another kind, or there is none and no default.
        """
        if key not in self:
            if default is None:
                raise self.error(key, f"missing, expected {NAMES[kind]}")
            return default
        return self._checked(key, self.content[key], kind)

    def items(self, key: str, kind: type, default: list[Any] | None = None) -> tuple[Any, ...]:
        """The entries of a list: not empty, and none of them twice."""
        if key not in self:
            if default is None:
                raise self.error(key, f"missing, expected a list, each {NAMES[kind]}")
            return tuple(default)
        given = self.content[key]
        if not isinstance(given, list) or not given:
            raise self.error(key, f"expected a list of one or more, got {given!r}")
        entries = [self._checked(key, each, kind) for each in given]
        for number, each in enumerate(entries):
            if each in entries[:number]:
                raise self.error(key, f"{each!r} is there twice")
        return tuple(entries)

    def section(self, key: str) -> Section:
        """The keys and values of ``key``; none where it is missing."""
        return Section(self.content[key] if key in self else {}, self.file, f"{self.place}{key}.")

    def sections(self, key: str) -> list[Section]:
        """The entries of a list of keys and values; an empty list where it is missing."""
        given = self.content[key] if key in self else []
        if not isinstance(given, list):
            raise self.error(key, f"expected a list, got {given!r}")
        return [
            Section(each, self.file, f"{self.place}{key}[{number}].")
            for number, each in enumerate(given)
        ]

    def scalars(self) -> Mapping[str, Scalar]:
        """All keys with their values, which are numbers, texts, true or false."""
        for key, value in self.content.items():
            if not isinstance(value, (str, int, float)):
                raise self.error(str(key), f"expected a number, a text or a bool, got {value!r}")
        self._known |= set(self.content)
        return {str(key): value for key, value in self.content.items()}

    def named(self) -> dict[str, Section]:
        """All keys, each of which has keys and values of its own."""
        self._known |= set(self.content)
        return {str(key): self.section(key) for key in self.content}

    def choice(self, key: str, value: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
        """``value``, if it is one of ``known``."""
        if value not in known:
            raise self.error(key, f"unknown '{value}'{did_you_mean(value, tuple(known))}")
        return value

    def done(self) -> None:
        """Raise StudyError if there is a key that nobody asked for."""
        for key in self.content:
            if key not in self._known:
                hint = did_you_mean(str(key), tuple(sorted(self._known)))
                raise self.error(str(key), f"no such key{hint}")

    def _checked(self, key: str, value: Any, kind: type) -> Any:
        kinds = (int, float) if kind is float else (kind,)
        # A bool is an int to Python, and no number to anybody else.
        if not isinstance(value, kinds) or isinstance(value, bool) != (kind is bool):
            raise self.error(key, f"expected {NAMES[kind]}, got {value!r}")
        return value

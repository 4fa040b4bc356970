"""Every command reads its words in the same way, and answers a typo with the nearest word.

``--results-folder`` and ``--results_folder`` are one flag, and so are the names that the commands
of the 2023 release had for one idea: see ``SYNONYMS``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from synther.files.atomic import at_home
from synther.suggestions import did_you_mean

FOLDER = ("results_folder", "checkpoints_path", "folder", "output", "out")
DATA = ("dataset", "real", "env", "data")
SYNONYMS: tuple[tuple[str, ...], ...] = (
    FOLDER,
    DATA,
    ("name", "exp_name"),
    ("config", "config_path"),
    ("save_num_samples", "num_samples", "num"),
    ("project", "wandb_project"),
    ("group", "wandb_group"),
    ("entity", "wandb_entity"),
)
"""Flags of one meaning, in whichever command; each command has its own name for it, and takes the
others."""
WITHOUT_DATA = tuple(names for names in SYNONYMS if names is not DATA)
"""For commands whose ``--env`` is an environment and no data set."""
INPUT = ("dataset", "real", "study", "load_agent", "env")
"""Flags of what a command works on: the first that a command has is meant by a word without one."""
_NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


def canonical(
    name: str, known: Collection[str], synonyms: Sequence[Sequence[str]] = SYNONYMS
) -> str:
    """The word of ``known`` that is meant by ``name``; ``name`` itself where there is none.

    Args:
        name: of a flag, without the leading dashes.
        known: the command's own names.
        synonyms: groups of names with one meaning.
    """
    if name in known:
        return name
    plain = name.replace("-", "_")
    by_plain = {each.replace("-", "_"): each for each in known}
    if plain in by_plain:
        return by_plain[plain]
    groups = (names for names in synonyms if plain in names)
    return next((by_plain[each] for names in groups for each in names if each in by_plain), name)


def _at_home(word: str) -> str:
    """A word, or the value of a flag, with the home directory for ``~/`` at its beginning."""
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{flag}{equals}{at_home(value)}"


class CommandParser(argparse.ArgumentParser):
    """A parser of flags with an example, which takes every spelling and names the nearest flag.

    Args:
        description: what the command does, in a sentence.
        example: a command line that works.
        synonyms: see :func:`canonical`.
        options: of ``argparse.ArgumentParser``.
    """

    def __init__(
        self,
        description: str,
        example: str,
        *,
        synonyms: Sequence[Sequence[str]] = SYNONYMS,
        **options: Any,
    ) -> None:
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, **options}
        super().__init__(description=description, epilog=f"example:\n  {example}", **options)
        self.synonyms = synonyms
        # As argparse has it, but for 1e-3 and 1., which it takes for flags where they are negative.
        self._negative_number_matcher = _NEGATIVE
        self.words: list[str] = []
        """What is parsed, for the hint of a message about it."""

    @property
    def flags(self) -> list[str]:
        """The names of all flags, without the dashes."""
        return [
            name[2:]
            for action in self._actions
            for name in action.option_strings
            if name.startswith("--")
        ]

    @property
    def positionals(self) -> list[str]:
        """The names of the words that go without a flag."""
        return [action.dest for action in self._actions if not action.option_strings]

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse has it, after every flag got the spelling of this command, and ``~/`` the
        home directory, which shells leave alone after a ``=``."""
        try:
            self.words = [_at_home(word) for word in (sys.argv[1:] if args is None else args)]
        except FileNotFoundError as error:
            self.error(str(error))
        end = self.words.index("--") if "--" in self.words else len(self.words)
        spelled = [each for word in self.words[:end] for each in self._spelled(word)]
        return super().parse_known_args([*spelled, *self.words[end:]], namespace)

    def _spelled(self, word: str) -> list[str]:
        """A flag as this command has it; what is positional here loses its flag."""
        if not word.startswith("--"):
            return [word]
        name, equals, value = word[2:].partition("=")
        meant = canonical(name, [*self.flags, *self.positionals], self.synonyms)
        if meant in self.positionals:
            return [value] if equals else []
        return [f"--{meant}{equals}{value}"]

    def error(self, message: str) -> NoReturn:
        """One line, with the nearest flag or choice, and exit code 2."""
        meant = ""
        if unknown := re.match(r"unrecognized arguments: --([^\s=]+)", message):
            meant = did_you_mean(unknown[1], self._understood(), "--", listed=0)
        elif stray := re.match(r"unrecognized arguments: ([^\s-]\S*)", message):
            flag = next((each for each in INPUT if each in self.flags), None)
            meant = f"; did you mean --{flag} {stray[1]}?" if flag else ""
        elif message.startswith("the following arguments are required"):
            meant = self._misspelled()
        elif choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            meant = did_you_mean(choice[1], re.findall(r"[\w.-]+", choice[2]), listed=0)
        self.exit(2, f"error: {self.prog}: {message}{meant}; --help explains all\n")

    def _understood(self) -> list[str]:
        """The flags, and the other names of what is positional here."""
        own = self.positionals
        groups = [names for names in self.synonyms if any(each in names for each in own)]
        return [*self.flags, *own, *(name for names in groups for name in names)]

    def _misspelled(self) -> str:
        """The first flag that this command does not have, and the nearest that it has."""
        known = self._understood()
        given = (
            each for word in self.words if word.startswith("--") for each in self._spelled(word)
        )
        names = (each[2:].partition("=")[0] for each in given if each.startswith("--"))
        for name in filter(None, names):
            if not any(each.startswith(name) for each in known):
                return f"; --{name} is unknown{did_you_mean(name, known, '--', listed=0)}"
        return ""

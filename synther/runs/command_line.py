"""Every command reads its words in the same way, and answers a typo with the nearest word.

``--results-folder`` and ``--results_folder`` are one flag, and so are the names that the commands
of the 2023 release had for one idea: see ``SYNONYMS``.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

FOLDER = ("results_folder", "checkpoints_path", "folder", "output", "out")
DATA = ("dataset", "real", "env")
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

    @property
    def flags(self) -> list[str]:
        """The names of all flags, without the dashes."""
        return [
            name[2:]
            for action in self._actions
            for name in action.option_strings
            if name.startswith("--")
        ]

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse has it, after every flag got the spelling of this command."""
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        known = self.flags
        return super().parse_known_args(
            [*(self._spelled(word, known) for word in words[:end]), *words[end:]], namespace
        )

    def _spelled(self, word: str, known: Collection[str]) -> str:
        if not word.startswith("--"):
            return word
        name, equals, value = word[2:].partition("=")
        return f"--{canonical(name, known, self.synonyms)}{equals}{value}"

    def error(self, message: str) -> NoReturn:
        """One line, with the nearest flag or choice, and exit code 2."""
        meant = ""
        if unknown := re.match(r"unrecognized arguments: --([^\s=]+)", message):
            meant = _nearest(unknown[1], self.flags, "--")
        elif choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            meant = _nearest(choice[1], re.findall(r"[\w.-]+", choice[2]))
        self.exit(2, f"error: {self.prog}: {message}{meant}; --help explains all\n")


def _nearest(name: str, known: Sequence[str], dashes: str = "") -> str:
    close = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    return f"; did you mean {dashes}{close[0]}?" if close else ""

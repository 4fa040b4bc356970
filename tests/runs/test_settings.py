"""Flags out of a dataclass: defaults, then a file, then the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from synther.runs.flags import flags_of
from synther.runs.settings import ConfigError, configured


@dataclass
class Part:
    path: str | None = None
    rate: float = 0.1


@dataclass
class Config:
    steps: int = 10
    resume: bool = False
    kind: Literal["plain", "fast"] = "plain"
    sizes: tuple[int, ...] = (2, 3)
    wandb_mode: str | None = None
    part: Part = field(default_factory=Part)


def parse(*words: str) -> Config:
    return configured(Config, vars(flags_of(Config, "A command.").parse_args(words)))


def test_without_a_word_there_are_defaults() -> None:
    assert parse() == Config()


def test_the_command_line_goes_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("steps: 4\nkind: fast\npart: {rate: 3e-5}\n")
    given = ("--steps", "5", "--part.path", "a.npz", "--sizes", "7", "8", "9")
    expected = Config(5, False, "fast", (7, 8, 9), None, Part("a.npz", 3e-5))
    assert parse("--config", str(file), *given) == expected


@pytest.mark.parametrize(
    ("words", "resume"),
    [(("--resume",), True), (("--resume", "false"), False), (("--resume", "True"), True)],
)
def test_a_flag_stands_alone_or_with_its_value(words: tuple[str, ...], resume: bool) -> None:
    assert parse(*words).resume is resume


def test_the_mode_of_wandb_has_the_other_commands_spelling_too() -> None:
    for flag in ("--wandb-mode", "--wandb_mode"):
        assert parse(flag, "offline").wandb_mode == "offline"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "2.5"), "--steps: expected a whole number, got '2.5'"),
        (("--kind", "quick"), "--kind: 'quick' is not one of plain, fast"),
        (("--resume", "3e-5"), "--resume: expected true or false"),
        (("--config", "nowhere.yaml"), "nowhere.yaml: no such file"),
    ],
)
def test_what_does_not_fit_is_one_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(*words)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_help_names_each_key_with_its_values_and_default() -> None:
    text = " ".join(flags_of(Config, "A command.").format_help().split())
    for part in ("--kind plain|fast", "--part.rate X", "(default: 0.1)", "(default: 2 3)"):
        assert part in text

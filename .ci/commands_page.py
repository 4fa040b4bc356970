"""Writes docs/commands.md, every command, flag and gin parameter, from the parsers themselves.

    python3 .ci/commands_page.py

tests/test_documentation.py compares the page with what this makes.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import gin

from synther import __main__ as program
from synther.corl.shared.config import RunConfig
from synther.corl.shared.parsing import flags
from synther.runs.command_line import CommandParser
from synther.runs.flags import comments_of
from synther.sweeps.algorithms import find_algorithm

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = """# Commands and keys

<!-- Made by .ci/commands_page.py from the parsers: edit those. -->

`synther VERB` and the file that the 2023 release named are the same command. Dashes and underscores
are the same; `--results_folder`, `--checkpoints_path`, `--folder` and `--output` are one flag, and
so are `--dataset`, `--data` and `--env` where that is a data set (`upsample` and `advise` take it
without a flag too), `--name` and `--exp_name`, `--group` and `--wandb-group`, and `--config` and
`--config_path`.
"""
GIN = """## Gin parameters

`--gin_params 'Trainer.train_num_steps = 2000'` goes over the files of `--gin_config_files`. What
has no default here is given by the program or by a file.
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for verb, each in program.VERBS.items():
        module = importlib.import_module(each.module)
        if verb == "offline":
            parts.append(_offline())
        else:
            file = f"{each.module.replace('.', '/')}.py"
            parts.append(_section(f"synther {verb}", module.build_parser(), f"`{file}`"))
    parts.append(_gin())
    return "\n".join(parts)


def _offline() -> str:
    configs = [find_algorithm(name).config_class for name in program.ALGORITHMS]
    shared = list(RunConfig.GROUPS.values())
    sections = []
    for number, (name, config) in enumerate(zip(program.ALGORITHMS, configs, strict=True)):
        parser = flags(config)
        words = str(parser.epilog).split()  # "example:", what this process is called, its arguments
        parser.epilog = f"example:\n  synther offline {name} {' '.join(words[2:])}"
        file = f"`synther/corl/algorithms/{name}.py`"
        skipped = shared if number else ()
        more = "; the other groups are those of `td3_bc`" if number else ""
        sections.append(_section(f"synther offline {name}", parser, file + more, skipped))
    return "\n".join(sections)


def _section(
    title: str, parser: CommandParser, where: str, skipped: tuple[str, ...] | list[str] = ()
) -> str:
    example = str(parser.epilog).split("example:\n")[1]
    example = re.sub(r"^ +", "    ", example.strip(), flags=re.MULTILINE)
    lines = [f"## {title}", "", f"{parser.description} The file: {where}.", ""]
    lines += ["```bash", example, "```", ""]
    for group in parser._action_groups:
        actions = [each for each in group._group_actions if each.dest != "help"]
        if not actions or group.title in skipped:
            continue
        if group.title not in ("options", "optional arguments", "positional arguments"):
            lines += [f"**{group.title}**", ""]
        lines += ["| flag | what it is |", "|---|---|", *map(_row, actions), ""]
    return "\n".join(lines)


def _row(action: argparse.Action) -> str:
    names = [name for name in action.option_strings if name.startswith("--")]
    values = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
    if isinstance(values, tuple):
        values = " ".join(values)
    shown = f"`{(names or [action.dest])[0]}{' ' + values if values else ''}`"
    text = str(action.help) % {"default": action.default} if action.help else ""
    return f"| {_cell(shown)} | {_cell(text)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<n>", "N").split())


def _gin() -> str:
    """A table of each configurable's parameters, and what its docstring says of them."""
    lines = [GIN]
    registry = gin.config._REGISTRY
    found = {name.rsplit(".", 1)[-1]: each.wrapped for name, each in registry.items()
             if each.wrapped.__module__.startswith("synther")}  # fmt: skip
    for name in sorted(found, key=str.lower):
        wrapped = found[name]
        about = _about(wrapped)
        rows = [
            f"| `{name}.{key}` | {_default(each)} | {_cell(about.get(key, ''))} |"
            for key, each in inspect.signature(wrapped).parameters.items()
            if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
        if rows:
            lines += [f"**{name}**", "", "| parameter | default | what it is |", "|---|---|---|"]
            lines += [*rows, ""]
    return "\n".join(lines)


def _about(wrapped: Any) -> dict[str, str]:
    """Name -> text of each parameter: from the docstring, a base's where it says nothing, or from
    the comments beside the fields of a dataclass."""
    about: dict[str, str] = {}
    for each in reversed(wrapped.__mro__[:-1] if inspect.isclass(wrapped) else [wrapped]):
        about |= _arguments_of(f"{each.__doc__}\n{each.__init__.__doc__}")
    if dataclasses.is_dataclass(wrapped):
        about |= comments_of(wrapped)
    return about


def _default(parameter: inspect.Parameter) -> str:
    value: Any = parameter.default
    if value is parameter.empty:
        return ""
    return f"`{value!r}`" if isinstance(value, (int, float, str, tuple, list, type(None))) else ""


def _arguments_of(docstring: str) -> dict[str, str]:
    """Name -> text of the ``Args`` (or ``Attributes``) of a docstring in Google's style."""
    found: dict[str, str] = {}
    keys: list[str] = []
    deepest = 12  # a line further in than its key goes on with the text of the key
    for line in docstring.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent <= deepest and (match := re.match(r"^\s{4,12}([\w, ]+): (.*)$", line)):
            keys, deepest = [key.strip() for key in match[1].split(",")], indent
            found.update(dict.fromkeys(keys, match[2]))
        elif keys and line.strip() and line.startswith(" " * 8):
            for key in keys:
                found[key] += f" {line.strip()}"
        else:
            keys, deepest = [], 12
    roles = re.compile(r":\w+:`~?([^`]+)`")  # of Sphinx
    return {key: roles.sub(r"`\1`", text).replace("``", "`") for key, text in found.items()}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""Words are understood in every spelling, a typo gets the nearest word, and help explains all."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex

import pytest

from synther import __main__ as program
from synther.corl.algorithms.cql import CQLConfig
from synther.corl.algorithms.edac import EDACConfig
from synther.corl.algorithms.iql import IQLConfig
from synther.corl.algorithms.td3_bc import TD3BCConfig
from synther.corl.shared.parsing import flags, parse
from synther.runs.command_line import WITHOUT_DATA, CommandParser, canonical

PARSERS = {
    verb: importlib.import_module(each.module).build_parser
    for verb, each in program.VERBS.items()
    if verb != "offline"
} | {
    f"offline {config.name.lower()}": lambda config=config: flags(config)
    for config in (TD3BCConfig, IQLConfig, EDACConfig, CQLConfig)
}


@pytest.fixture
def parser() -> CommandParser:
    parser = CommandParser("Do it.", "do --output x", prog="do")
    parser.add_argument("--output")
    parser.add_argument("--save_file_name")
    parser.add_argument("--wandb-mode", choices=["offline", "online"])
    parser.add_argument("rest", nargs="*")
    return parser


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("--save-file-name a", "save_file_name", "a"),
        ("--save-file-name=a-b", "save_file_name", "a-b"),
        ("--wandb_mode online", "wandb_mode", "online"),
        ("--results_folder f", "output", "f"),
        ("--checkpoints-path f", "output", "f"),
        ("--output f --folder g", "output", "g"),
        ("-- --save-file-name", "rest", ["--save-file-name"]),
    ],
)
def test_a_flag_in_every_spelling(
    parser: CommandParser, words: str, key: str, value: object
) -> None:
    assert getattr(parser.parse_args(words.split()), key) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--outptu x", "unrecognized arguments: --outptu; did you mean --output?"),
        ("--save-fiel-name x", "did you mean --save_file_name?"),
        ("--wandb_mode onlin", "did you mean online?"),
        ("--output", "argument --output: expected one argument"),
    ],
)
def test_a_typo_is_one_line_with_the_nearest_word(
    parser: CommandParser, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parser.parse_args(words.split())
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: do: ")
    assert message in line


def test_a_name_of_the_release_means_this_commands_own() -> None:
    assert canonical("dataset", ["env", "seed"]) == "env"
    assert canonical("dataset", ["env", "real"]) == "real"
    assert canonical("env", ["env", "real"]) == "env"
    assert canonical("dataset", ["env"], WITHOUT_DATA) == "dataset"
    assert canonical("diffusion.num-steps", ["diffusion.num_steps"]) == "diffusion.num_steps"
    assert canonical("wandb_group", ["group"]) == "group"
    assert canonical("project", ["wandb-project"]) == "wandb-project"
    assert canonical("nothing", ["env"]) == "nothing"


def test_offline_settings_have_these_names_too() -> None:
    words = "--dataset a.npz --exp-name B --results-folder c --wandb-project p --wandb_group g "
    words += "--wandb-entity e --gamma 0.5 --config_path"
    config = parse(EDACConfig, [*words.split(), "synther/corl/yaml/edac/hopper/medium_v2.yaml"])
    assert (config.env, config.name, config.checkpoints_path) == ("a.npz", "B", "c")
    assert (config.project, config.group, config.entity) == ("p", "g", "e")
    assert config.discount == 0.5
    assert config.eta == 1.0


@pytest.mark.parametrize("verb", PARSERS)
def test_every_flag_has_a_line_that_says_something(verb: str) -> None:
    for action in PARSERS[verb]()._actions:
        text = re.sub(r"\(default: .*\)$", "", action.help or "").strip()
        assert text, f"{verb}: {action.option_strings or action.dest}"


@pytest.mark.parametrize("verb", PARSERS)
def test_the_example_of_the_help_is_understood(
    verb: str,
) -> None:
    parser = PARSERS[verb]()
    text = parser.format_help()
    assert "\nexample:\n" in text
    words = shlex.split(text.split("\nexample:\n")[1].replace("\\\n", " "))
    if not verb.startswith("offline"):
        assert words[:2] == ["synther", verb]
    arguments = words[2:] if words[0] == "synther" else words[1:]
    assert isinstance(parser.parse_args(arguments), argparse.Namespace)

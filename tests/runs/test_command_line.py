"""Words are understood in every spelling, a typo gets the nearest word, and help explains all."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from synther import __main__ as program
from synther.corl.algorithms.cql import CQLConfig
from synther.corl.algorithms.edac import EDACConfig
from synther.corl.algorithms.iql import IQLConfig
from synther.corl.algorithms.td3_bc import TD3BCConfig
from synther.corl.shared.parsing import flags, parse
from synther.runs.command_line import WITHOUT_DATA, CommandParser, canonical
from synther.runs.settings import ConfigError, configured

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


@pytest.mark.parametrize("verb", ["upsample", "advise"])
@pytest.mark.parametrize("words", ["a.npz", "--dataset a.npz", "--data=a.npz", "--env a.npz"])
def test_the_data_are_the_data_with_or_without_a_flag(verb: str, words: str) -> None:
    assert PARSERS[verb]().parse_args(["--seed", "3", *words.split()]).data == "a.npz"


@pytest.mark.parametrize(
    ("verb", "words", "meant"),
    [
        ("train", "hopper-demo-v0", "did you mean --dataset hopper-demo-v0?"),
        ("online", "Hopper-v4 --seed 3", "did you mean --env Hopper-v4?"),
        ("sweep", "--studdy x.yaml", "--studdy is unknown; did you mean --study?"),
        ("encode", "--load_agnt runs/w", "--load_agnt is unknown; did you mean --load_agent?"),
        ("evaluate", "--reel a.npz --synthetic b.npz", "--reel is unknown; did you mean --real?"),
        ("upsample", "--datset a.npz", "did you mean --dataset?"),
        ("upsample", "--num 3", "are required: data; --help"),
        ("sweep", "--fold x", "are required: --study; --help"),
    ],
)
def test_a_word_that_is_missed_or_left_over_is_explained(
    verb: str, words: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        PARSERS[verb]().parse_args(words.split())
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert meant in line


@pytest.mark.parametrize("number", ["-3", "-3.", "-.5", "-1e3", "-2.5E-07", "-1e+2"])
def test_a_negative_number_is_no_flag(number: str) -> None:
    parser = CommandParser("Do it.", "do --target 1", prog="do")
    parser.add_argument("--target", type=float)
    assert parser.parse_args(["--target", number]).target == float(number)


def test_a_word_without_a_key_is_explained_offline() -> None:
    with pytest.raises(ConfigError, match="did you mean --env hopper-demo-v0"):
        parse(EDACConfig, ["hopper-demo-v0"])


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


def test_the_home_directory_is_meant_wherever_a_path_begins_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells leave ``~/`` alone after a ``=``, and in files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = CommandParser("Does nothing.", "synther nothing")
    parser.add_argument("--out", type=Path)
    parser.add_argument("words", nargs="*")
    found = parser.parse_args(["--out=~/runs", "~/data.npz", "a~/b", "~"])
    assert found.out == tmp_path / "runs"
    assert found.words == [str(tmp_path / "data.npz"), "a~/b", "~"]
    (tmp_path / "run.yaml").write_text("checkpoints_path: ~/runs\ndiffusion: {path: ~/rows.npz}\n")
    config = configured(TD3BCConfig, {"config": "~/run.yaml"})
    assert config.checkpoints_path == str(tmp_path / "runs")
    assert config.diffusion.path == str(tmp_path / "rows.npz")

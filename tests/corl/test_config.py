"""Configurations: the YAML files, precedence, and errors that help."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pyrallis
import pytest

from synther.corl.algorithms.cql import CQLConfig
from synther.corl.algorithms.edac import EDACConfig
from synther.corl.algorithms.iql import IQLConfig
from synther.corl.algorithms.td3_bc import TD3BCConfig
from synther.corl.shared.config import DiffusionConfig, RunConfig
from synther.corl.shared.parsing import flags, parse
from synther.runs.settings import ConfigError, as_dict, coerce
from tests.conftest import GOLDEN

YAML_FOLDER = Path(__file__).parents[2] / "synther" / "corl" / "yaml"
CONFIGS: dict[str, type[RunConfig]] = {
    "td3_bc": TD3BCConfig,
    "iql": IQLConfig,
    "edac": EDACConfig,
    "cql": CQLConfig,
}
with open(GOLDEN / "offline_configs.csv", encoding="utf-8", newline="") as table:
    ROWS = [row for row in csv.reader(table) if row[0] in CONFIGS]


def value_of(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False}[text]


@pytest.mark.parametrize("row", ROWS, ids=[row[1] for row in ROWS])
def test_every_file_holds_exactly_what_differs(row: list[str]) -> None:
    algorithm, file, dataset, values = row
    config_class = CONFIGS[algorithm]
    expected = as_dict(config_class()) | {"env": dataset}
    for pair in values.split():
        key, value = pair.split("=")
        expected[config_class.ALIASES.get(key, key)] = value_of(value)
    loaded = as_dict(parse(config_class, ["--config", str(YAML_FOLDER / file)]))
    assert loaded == expected
    assert {key: type(value) for key, value in loaded.items()} == {
        key: type(value) for key, value in expected.items()
    }


@pytest.mark.parametrize("algorithm", CONFIGS)
def test_there_are_no_other_files(algorithm: str) -> None:
    found = {str(path.relative_to(YAML_FOLDER)) for path in (YAML_FOLDER / algorithm).rglob("*.*")}
    assert found == {row[1] for row in ROWS if row[0] == algorithm}


def test_the_defaults_of_td3_bc_are_the_papers() -> None:
    config = TD3BCConfig()
    expected = {
        "max_timesteps": 1_000_000, "network_width": 256, "network_depth": 2, "batch_size": 256,
        "discount": 0.99, "tau": 0.005, "learning_rate": 3e-4, "alpha": 2.5, "policy_noise": 0.2,
        "noise_clip": 0.5, "policy_freq": 2, "normalize": True, "normalize_reward": False,
        "eval_freq": 5000, "n_episodes": 10, "diffusion.num_steps": 128, "diffusion.path": None,
    }  # fmt: skip
    assert {key: as_dict(config)[key] for key in expected} == expected


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("env: hopper-medium-v2\nalpha: 3\ndiffusion:\n  num_steps: 9\n")
    words = ["--alpha=4.5", "--config", str(file), "--diffusion.path", "a.npz", "--name", "7"]
    config = parse(TD3BCConfig, words)
    assert (config.env, config.alpha, config.tau) == ("hopper-medium-v2", 4.5, 0.005)
    assert config.diffusion == DiffusionConfig(path="a.npz", num_steps=9)
    assert config.name == "7"


def test_settings_say_which_algorithm_they_are_of() -> None:
    labels = {name: each().algorithm for name, each in CONFIGS.items()}
    assert labels == {"td3_bc": "TD3+BC", "iql": "IQL", "edac": "EDAC", "cql": "CQL"}
    assert parse(TD3BCConfig, ["--algorithm", "TD3+BC", "--name", "x"]).algorithm == "TD3+BC"
    with pytest.raises(ConfigError, match=r"algorithm is 'TD3\+BC', these are the settings of IQL"):
        parse(IQLConfig, ["--algorithm", "TD3+BC"])


def test_flags_stand_alone_and_dashes_are_underscores() -> None:
    config = parse(TD3BCConfig, ["--resume", "--wandb-mode", "offline", "--normalize", "false"])
    assert (config.resume, config.wandb_mode, config.normalize) == (True, "offline", False)
    assert parse(TD3BCConfig, ["--wandb_mode", "disabled", "--resume", "True"]).resume is True
    assert parse(TD3BCConfig, ["--checkpoints_path", "none"]).checkpoints_path is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--evl_freq", "3"], "--evl_freq: no such key; did you mean --eval_freq?"),
        (
            ["--diffusion.pth", "a.npz"],
            "--diffusion.pth: no such key; did you mean --diffusion.path",
        ),
        (["--max_timestep", "3"], "did you mean --max_timesteps?"),
        (["--batch_size", "many"], "--batch_size: expected a whole number, got 'many'"),
        (["--batch_size", "2.5"], "--batch_size: expected a whole number, got '2.5'"),
        (["--alpha", "nan"], "--alpha: expected a number, got 'nan'"),
        (
            ["--compile", "defualt"],
            "--compile: 'defualt' is not one of off, default, cudagraph, max",
        ),
        (["--diffusion.path", "model.ckpt"], "neither an .npz nor a .pt file"),
        (["--diffusion.path", ""], "--diffusion.path: is empty; null stands for none"),
        (["--diffusion.sample_limit", "0"], "diffusion.sample_limit is 0, expected 1 or more"),
        (["--policy_freq", "0"], "policy_freq is 0, expected 1 or more"),
        (["--discount", "1.5"], "discount is 1.5, expected from 0 to 1"),
        (["--seed", "-1"], "seed is -1"),
        (["hopper"], "unexpected argument 'hopper'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_mistakes_are_one_clear_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(TD3BCConfig, words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alhpa: 1\n", "run.yaml: alhpa: no such key; did you mean alpha?"),
        ("normalize: 3e-5\n", "normalize: expected true or false, got '3e-5'"),
        ("normalize: 1\n", "normalize: expected true or false, got 1"),
        ("alpha: [1, 2]\n", "alpha: expected a number, got [1, 2]"),
        ("- env\n", "holds a list, expected keys and values"),
        ("env: [\n", "not YAML"),
        ("env: a\nenv: b\n", "not YAML (key 'env' is there twice)"),
    ],
)
def test_mistakes_in_a_file_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        parse(TD3BCConfig, ["--config", str(tmp_path / "run.yaml")])
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_small_numbers_stay_numbers() -> None:
    """Fault 2 of the 2023 release: ``3e-5`` became True, a learning rate of 1.0."""
    assert coerce("3e-5", float) == 3e-5
    assert pyrallis.decode(bool, "3e-5") is True  # what pyrallis itself makes of it
    with pytest.raises(ConfigError, match="expected true or false"):
        coerce("3e-5", bool)
    for config_class in CONFIGS.values():
        for field in dataclasses.fields(config_class):
            if isinstance(field.default, float):
                assert field.type is float, field.name
            elif isinstance(field.default, bool):
                assert field.type is bool, field.name


def test_whole_numbers_may_be_written_with_an_exponent() -> None:
    assert coerce("1e6", int) == 1_000_000
    assert isinstance(coerce("1e6", int), int)
    assert coerce(3, float) == 3.0
    assert isinstance(coerce(3, float), float)


def test_off_in_yaml_is_the_word(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("compile: off\n")  # YAML 1.1 reads false
    assert parse(TD3BCConfig, ["--config", str(tmp_path / "run.yaml")]).compile == "off"


def test_the_releases_way_of_no_limit() -> None:
    assert DiffusionConfig(sample_limit=-1).sample_limit is None


def test_files_of_the_project_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--config", "synther/corl/yaml/td3_bc/hopper/medium_replay_v2.yaml"]
    assert parse(TD3BCConfig, words).env == "hopper-medium-replay-v2"


@pytest.mark.parametrize("config_class", CONFIGS.values())
def test_help_names_every_key(config_class: type[RunConfig]) -> None:
    text = flags(config_class).format_help()
    for key in as_dict(config_class()):
        assert f"--{key} " in text
    assert "--config FILE" in text
    assert "nothing is written (default: corl_logs)" in " ".join(text.split())


def test_pyrallis_itself_reads_the_dataclasses() -> None:
    words = ["--alpha", "3.5", "--diffusion.path", "a.npz", "--max_timesteps", "7"]
    config = pyrallis.parse(TD3BCConfig, args=words)
    assert (config.alpha, config.diffusion.path, config.max_timesteps) == (3.5, "a.npz", 7)

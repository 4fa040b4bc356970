"""Configuration: files, command line, schedules."""

from pathlib import Path

import pytest

from synther.datasets.vd4rl import LEVELS, TASKS
from synther.pixels.config import PixelConfig
from synther.runs.flags import flags_of
from synther.runs.settings import (
    ConfigError,
    as_dict,
    build,
    configured,
    read_mapping,
    typed,
)

ROOT = Path(__file__).parents[2]


def parse(*words: str) -> PixelConfig:
    return configured(PixelConfig, vars(flags_of(PixelConfig, "").parse_args(words)))


def test_the_defaults_are_those_of_the_paper() -> None:
    config = PixelConfig()
    assert (config.channels, config.latent_dim, config.hidden_width, config.pad) == (
        32,
        50,
        1024,
        4,
    )
    assert (config.batch_size, config.learning_rate, config.tau) == (256, 3e-4, 0.01)
    assert (config.n_step, config.discount, config.update_every) == (3, 0.99, 2)
    assert (config.bc_weight, config.noise_clip) == (2.5, 0.3)
    assert (config.frame_stack, config.action_repeat, config.image_size) == (3, 2, 84)
    assert config.n_step_discount == pytest.approx(0.970299)


@pytest.mark.parametrize(
    ("step", "std"), [(0, 1.0), (125_000, 0.55), (250_000, 0.1), (900_000, 0.1)]
)
def test_the_noise_falls_linearly(step: int, std: float) -> None:
    assert PixelConfig().std(step) == pytest.approx(std)


def test_there_is_a_file_for_each_task_and_level() -> None:
    for task in TASKS:
        for level in LEVELS:
            config = parse("--config", f"config/pixels/{task}_{level}.yaml")
            assert (config.task, config.level) == (task, level)
            assert config == PixelConfig(task=task, level=level)
            assert config.seen({}).env_id == f"{task.replace('_', '-')}-v0"


def test_the_command_line_goes_over_the_file() -> None:
    file = "config/pixels/cartpole_swingup.yaml"
    words = (
        "--batch_size",
        "8",
        "--diffusion.path",
        "a.pt",
        "--resume",
        "--recipe.seeds",
        "4",
        "5",
    )
    config = parse("--config", file, *words)
    assert (config.batch_size, config.diffusion.path, config.resume) == (8, "a.pt", True)
    assert config.recipe.seeds == (4, 5)
    assert config.recipe.num_samples == read_mapping(file)["recipe"]["num_samples"]
    assert config.learning_rate == 1e-3


def test_plain_values_give_the_configuration_back() -> None:
    config = parse("--config", "config/pixels/cartpole_swingup.yaml", "--env", "none")
    assert build(PixelConfig, typed(PixelConfig, as_dict(config))) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize: 3", "batchsize: no such key; did you mean batch_size"),
        ("recipe: {seed: 3}", r"recipe\.seed: no such key; did you mean recipe\.seeds"),
        ("batch_size: 2.5", "batch_size: expected a whole number"),
        ("batch_size: .inf", "batch_size: expected a whole number"),
        ("tau: nan", "tau: expected a number"),
        ("resume: 3e-5", "resume: expected true or false"),
        ("- a", "holds a list"),
        ("a: [", "not YAML"),
        ("recipe: {seeds: 3}", "expected a list"),
    ],
)
def test_a_wrong_file_is_an_error_of_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse("--config", str(tmp_path / "a.yaml"))


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("learning_rate: 3e-5\nmax_timesteps: 20")
    assert parse("--config", str(tmp_path / "a.yaml")).learning_rate == 3e-5


@pytest.mark.parametrize(
    ("task", "env_id"),
    [
        ("ball_in_cup_catch", "ball_in_cup-catch-v0"),
        ("point_mass_easy", "point_mass-easy-v0"),
        ("cartpole_swingup", "cartpole-swingup-v0"),
        ("mine_of_my_own", "mine-of_my_own-v0"),
    ],
)
def test_a_task_is_parted_where_its_domain_ends(task: str, env_id: str) -> None:
    assert PixelConfig(task=task).seen({}).env_id == env_id

"""gin, YAML and command lines of anybody: understood, or one message that names what is wrong."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synther.corl.algorithms.cql import CQLConfig
from synther.corl.algorithms.edac import EDACConfig
from synther.corl.algorithms.iql import IQLConfig
from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared import command as offline_command
from synther.corl.shared.config import RunConfig
from synther.corl.shared.parsing import parse
from synther.diffusion import evaluate_samples, train_diffuser
from synther.installed import CHECKOUT
from synther.online import online_exp
from synther.runs import gin_config
from synther.runs.gin_config import GinError
from synther.runs.settings import ConfigError
from tests.fuzz.helpers import FUZZ, damaged, loads_or_says_why

CONFIGS: list[type[RunConfig]] = [TD3BCConfig, IQLConfig, EDACConfig, CQLConfig]


def parses(path: Path) -> bool:
    gin_config.parse([path])
    return True


GIN = b"""include 'config/online/sac.gin'
# sizes
ResidualMLPDenoiser.mlp_width = 16
redq_sac.hidden_sizes = (8, 8)
modelled_terminals = False
make_inputs.modelled_terminals = %modelled_terminals
construct_diffusion_model.denoising_network = @ResidualMLPDenoiser
Trainer.train_lr = 3e-4
"""
YAML = b"""alpha: 2.5
max_timesteps: 100
env: hopper-medium-v2
normalize: true
diffusion:
  path: samples.npz
  num_steps: 16
"""


@FUZZ
@given(data=st.data())
def test_a_damaged_gin_file_is_parsed_or_named(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "odd.gin"
    path.write_bytes(data.draw(damaged(GIN)))
    loads_or_says_why(parses, path, GinError)


@FUZZ
@given(text=st.text(max_size=60))
def test_a_binding_of_any_text_is_parsed_or_named(text: str) -> None:
    with contextlib.suppress(GinError):
        gin_config.parse(bindings=[text])


WRONG_TYPES = [
    ("Trainer.train_num_steps = 'many'", r"Trainer\.train_num_steps is 'many', expected int"),
    ("Trainer.train_num_steps = 1.5", r"Trainer\.train_num_steps is 1\.5, expected int"),
    ("Trainer.train_num_steps = True", r"is True, expected int"),
    ("Trainer.train_lr = 'fast'", r"Trainer\.train_lr is 'fast', expected float"),
    ("Trainer.train_lr = None", r"Trainer\.train_lr is None, expected float"),
    ("Trainer.lr_scheduler = 'linear'", r"Trainer\.lr_scheduler is 'linear'"),
    ("Trainer.split_batches = 1", r"Trainer\.split_batches is 1, expected bool"),
    ("ResidualMLPDenoiser.mlp_width = (2, 3)", r"mlp_width is \(2, 3\), expected int"),
    ("REDQTrainer.train_lr = 'fast'", r"REDQTrainer\.train_lr is 'fast', expected float"),
    ("redq_sac.utd_ratio = 'high'", r"redq_sac\.utd_ratio is 'high', expected int"),
]


@pytest.mark.parametrize(("binding", "message"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_found_while_reading(binding: str, message: str) -> None:
    with pytest.raises(GinError, match=message):
        gin_config.parse(bindings=[binding])


def test_values_of_the_right_type_pass() -> None:
    gin_config.parse(
        bindings=[
            "Trainer.train_lr = 1", "Trainer.save_and_sample_every = None",
            "Trainer.adam_betas = (0.9, 0.95)", "Trainer.lr_scheduler = None",
            "redq_sac.epochs = 'mbpo'", "redq_sac.hidden_sizes = [8, 8]",
            "half = 0.5", "Trainer.train_lr = %half",
            "construct_diffusion_model.denoising_network = @ResidualMLPDenoiser",
        ]
    )  # fmt: skip


def test_every_gin_file_that_ships_is_of_the_right_types() -> None:
    for path in sorted((CHECKOUT / "config").rglob("*.gin")):
        gin_config.parse([path])


def test_gin_files_that_are_not_text_or_include_each_other(tmp_path: Path) -> None:
    (tmp_path / "binary.gin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "a.gin").write_text("include 'b.gin'\n")
    (tmp_path / "b.gin").write_text("include 'a.gin'\n")
    for name in ("binary.gin", "a.gin", "nothing.gin", "."):
        with pytest.raises(GinError, match=name):
            gin_config.parse([tmp_path / name if name != "." else "."])


@FUZZ
@given(data=st.data(), config=st.sampled_from(CONFIGS))
def test_a_damaged_yaml_file_is_read_or_named(
    data: st.DataObject, config: type[RunConfig], tmp_path: Path
) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(data.draw(damaged(YAML)))
    with contextlib.suppress(ConfigError):  # a value out of its range is named without its file
        parse(config, ["--config", str(path)])


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 25)
)
BAD_YAML = [
    ("[" * 5000, "not YAML"),
    ("a: [1, 2", "not YAML"),
    ("- 1\n- 2\n", "holds a list, expected keys and values"),
    ("text", "holds a str, expected keys and values"),
    (LAUGHS, "a0: no such key"),
    (LAUGHS.replace("a24:", "alpha:") + "\n", "no such key"),
    (f"{LAUGHS.replace('a0:', 'env:')}", "env: expected text, got"),
    ("alpha: !!python/object/apply:os.system ['touch touched']", "not YAML"),
    ("alpha: !!python/name:os.system ''", "not YAML"),
    ("max_timesteps: .nan", "expected a whole number"),
    ("1: 2", "1: no such key"),
    ("diffusion: 3", "diffusion: no such key"),
    ("diffusion: {path: [1]}", "diffusion.path: expected text"),
    ("max_timesteps: " + "9" * 5000, "not YAML"),
    (f"max_timesteps: '{'9' * 5000}'", "expected a whole number"),
]


@pytest.mark.parametrize(("text", "message"), BAD_YAML, ids=range(len(BAD_YAML)))
def test_bad_yaml_is_named_and_never_executed(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "with {braces}.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        parse(TD3BCConfig, ["--config", str(path)])
    assert path.name in str(raised.value)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 3000
    assert not (tmp_path / "touched").exists()


def test_a_yaml_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"alpha: \xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.yaml: not YAML"):
        parse(TD3BCConfig, ["--config", str(tmp_path / "binary.yaml")])


words = st.lists(
    st.sampled_from(
        [
            "--env", "--seed", "--threads", "--device", "--config", "--gin_params", "--dataset",
            "--held_out", "--synthetic", "--real", "--resume", "--max_timesteps", "--sampler",
            "--gin_config_files", "--diffusion.path", "--save_num_samples", "--alpha", "--=", "--",
            "-1", "0", "1e99", "nan", "", "x.npz", "x.hdf5", "Hopper-v2", "true", "%", "@", "'",
            "Trainer.train_lr=x", "9" * 30, "a" * 300,
        ]
    ),
    max_size=6,
)  # fmt: skip


class Started(Exception):
    """The words were understood."""


def ends_with_a_message(start: object, given_words: Sequence[str]) -> None:
    """It says what is wrong and exits with a code, or gets as far as to start."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            start(given_words)  # type: ignore[operator]
        except Started:
            return
        except SystemExit as stop:
            code = stop.code
    assert code in (1, 2)
    assert err.getvalue().strip()
    assert "Traceback" not in err.getvalue()


@pytest.mark.parametrize("config", CONFIGS)
@FUZZ
@given(given_words=words)
def test_offline_words_are_understood_or_refused(
    config: type[RunConfig], given_words: list[str]
) -> None:
    with contextlib.suppress(ConfigError):
        parse(config, given_words)


@pytest.mark.parametrize("module", [train_diffuser, online_exp, evaluate_samples])
@FUZZ
@given(given_words=words)
def test_words_are_understood_or_refused(
    module: object, given_words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def started(*_: object) -> None:
        raise Started

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.getbasetemp())
        patch.setattr(module, "run", started)
        ends_with_a_message(module.main, given_words)  # type: ignore[attr-defined]


def test_offline_ends_with_usage_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object) -> None:
        raise Started

    monkeypatch.setattr(offline_command, "run_in_folder", started)
    for given_words in (["--env"], ["x"], ["--alhpa", "1"], ["--config", "none.yaml"]):
        ends_with_a_message(
            lambda each: offline_command.command(TD3BCConfig, TD3BC, each), given_words
        )

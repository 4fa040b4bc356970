"""The command, from a data set to samples and their fidelity, killed and resumed on the way."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synther.diffusion.generation.on_the_fly import rows_of_model
from synther.diffusion.train_diffuser import main, samples_name
from synther.files import checkpoint
from synther.runs.loggers import read_metrics
from synther.runs.settings import ConfigError
from synther.transitions import TransitionLayout, Transitions
from tests.data import random_transitions
from tests.events import assert_shows

REPOSITORY = Path(__file__).parents[2]
STEPS = 60
TINY = [
    "ResidualMLPDenoiser.mlp_width=16",
    "ResidualMLPDenoiser.num_layers=1",
    "ResidualMLPDenoiser.dim_t=8",
    "SimpleDiffusionGenerator.num_sample_steps=4",
    "SimpleDiffusionGenerator.sample_batch_size=50",
    "Trainer.small_batch_size=32",
    "Trainer.save_and_sample_every=25",
    "Trainer.log_every=10",
]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    transitions = random_transitions(200)
    return Transitions.from_arrays(transitions.arrays(), metadata={"env_id": "Hopper-v2"}).save(
        tmp_path / "data.npz"
    )


def arguments(dataset: Path, folder: Path, *more: str, gin: tuple[str, ...] = ()) -> list[str]:
    return [
        *("--dataset", str(dataset), "--results_folder", str(folder), "--no_use_gpu"),
        *("--threads", "1", "--save_num_samples", "123", "--save_file_name", "samples.npz"),
        *("--gin_params", *TINY, f"Trainer.train_num_steps={STEPS}", *gin),
        *more,
    ]


def equal(a: Any, b: Any) -> bool:
    """Equality of nested containers, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def test_one_command_trains_samples_and_reports(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    main(arguments(dataset, folder))
    assert list(checkpoint.steps(folder, "model")) == [25, 50, 60]
    assert not checkpoint.steps(folder, "resume")
    samples = Transitions.load(folder / "samples.npz")
    assert (len(samples), samples.observation_dim, samples.action_dim) == (123, 3, 2)
    assert samples.metadata["env_id"] == "Hopper-v2"
    assert np.abs(samples.actions).max() <= 1
    scores = json.loads((folder / "fidelity.json").read_text())
    assert scores["reference"] == "held-out real rows"
    assert scores["synthetic"]["rows"] == [20, 123]
    assert (folder / "marginals.png").stat().st_size > 1000
    assert [each["step"] for each in read_metrics(folder / "metrics.jsonl")][-1] == STEPS
    assert "Trainer.train_num_steps = 60" in (folder / "config.gin").read_text()
    assert "marginals.png" in capsys.readouterr().out


def test_tensorboard_shows_what_metrics_jsonl_has(dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    main(arguments(dataset, folder, "--no_save_samples", "--tensorboard"))
    assert_shows(folder, read_metrics(folder / "metrics.jsonl"))


def test_a_killed_run_resumes_to_the_same_bits(dataset: Path, tmp_path: Path) -> None:
    steps = "Trainer.train_num_steps=3000"
    gin = (steps, "Trainer.save_and_sample_every=None", "Trainer.resume_every=0.1")
    script = str(REPOSITORY / "synther/diffusion/train_diffuser.py")

    def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
        words = arguments(dataset, folder, "--no_save_samples", *more, gin=gin)
        return subprocess.Popen([sys.executable, script, *words], stderr=subprocess.DEVNULL)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted, victim = start(whole), start(killed)
    deadline = time.monotonic() + 300
    while not checkpoint.steps(killed, "resume"):
        assert victim.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert checkpoint.steps(killed, "resume")
    assert not checkpoint.steps(killed, "model")
    assert start(killed, "--resume").wait() == 0
    assert uninterrupted.wait() == 0
    final = [checkpoint.load(folder / "model-3000.pt") for folder in (whole, killed)]
    assert equal(*final)
    logs = [read_metrics(folder / "metrics.jsonl") for folder in (whole, killed)]
    assert [each["loss"] for each in logs[0]] == [each["loss"] for each in logs[1]]


def test_load_checkpoint_samples_the_same_again_without_training(
    dataset: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    main(arguments(dataset, folder))
    first = Transitions.load(folder / "samples.npz")
    before = (folder / "model-60.pt").stat().st_mtime_ns
    main(arguments(dataset, folder, "--load_checkpoint", "--save_file_name", "again.npz"))
    again = Transitions.load(folder / "again.npz")
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, getattr(again, name))
    assert (folder / "model-60.pt").stat().st_mtime_ns == before


def test_resume_refuses_other_settings_and_names_them(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    main(arguments(dataset, folder, "--no_save_samples"))
    changed = arguments(dataset, folder, "--resume", "--seed", "1", gin=("Trainer.train_lr=0.5",))
    with pytest.raises(SystemExit) as stopped:
        main(changed)
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert f"{folder}: --resume needs the settings that the run was started with" in message
    assert "\n  Trainer.train_lr: then 0.0003, now 0.5\n" in message
    assert "\n  seed: then 0, now 1\n" in message
    with pytest.raises(SystemExit):
        main(arguments(dataset, tmp_path / "nothing", "--resume"))
    assert "no run to --resume" in capsys.readouterr().err


def test_a_second_run_sets_the_first_aside(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for seed in ("0", "1", "2"):
        main(arguments(dataset, folder, "--no_save_samples", "--seed", seed))
    seeds = {
        path.parent.name: json.loads(path.read_text())["seed"] for path in folder.rglob("run.json")
    }
    assert seeds == {"run": 2, "previous-1": 0, "previous-2": 1}
    assert list(checkpoint.steps(folder / "previous-1", "model")) == [25, 50, 60]


def test_without_modelled_terminals_there_is_no_such_column(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    main(arguments(dataset, folder, gin=("modelled_terminals=False",)))
    payload = checkpoint.load(folder / "model-60.pt")
    assert payload["layout"] == {"observation_dim": 3, "action_dim": 2, "terminals": False}
    assert not Transitions.load(folder / "samples.npz").terminals.any()
    columns = json.loads((folder / "fidelity.json").read_text())["synthetic"]["columns"]
    assert "terminals" not in columns


def test_a_checkpoint_without_a_layout_is_never_taken_for_what_its_width_would_fit(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model of the 2023 release of Hopper's rows with terminals, 27 columns; so many have rows of
    11 observation and 4 action columns without terminals."""
    folder = tmp_path / "release"
    shutil.copytree(golden / "release2023_standard", folder)
    for action_dim in (3, 4):
        data = random_transitions(200, 11, action_dim).save(tmp_path / f"data-{action_dim}.npz")
        words = arguments(data, folder, "--load_checkpoint")
        if action_dim == 3:
            main(words)
            continue
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 1
        message = capsys.readouterr().err
        assert (
            f"{folder / 'model-300.pt'}: the model's rows have 27 columns, expected 28" in message
        )
        assert "make_inputs.modelled_terminals = True" in message
    assert Transitions.load(folder / "samples.npz").action_dim == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--dataset", "hoper-random-v2"], "did you mean hopper-random-v2"),
        (["--gin_params", "Trainer.train_steps=3"], "train_num_steps"),
        (["--gin_config_files", "config/no_such.gin"], "config/no_such.gin"),
        (["--device", "gpu"], "expected auto, cpu, cuda"),
        (["--held_out", "1.5"], "--held_out: '1.5'"),
        (["--save_num_samples", "0"], "--save_num_samples: '0'"),
        (["--load_checkpoint"], r"has no model-<step>.pt"),
        (["--held_out", "0.7", "--consistency", "ensemble"], "--consistency off"),
    ],
)
def test_bad_input_is_one_clear_message(
    words: list[str],
    expected: str,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments(dataset, tmp_path / "run"), *words])
    assert stopped.value.code != 0
    message = capsys.readouterr().err
    assert expected in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def test_samples_are_made_consistent_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a law that 60 steps of such a small model do not learn; the regressions take as many."""
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(1000, 3)), rng.uniform(-1, 1, (1000, 2))
    rewards, flags = observations[:, 0] + actions[:, 1], np.zeros(1000)
    data = Transitions(observations, actions, rewards, observations, flags)
    dataset = data.save(tmp_path / "data.npz")
    folder = tmp_path / "run"
    gin = ("SimpleDiffusionGenerator.consistency='ensemble'",)
    main(arguments(dataset, folder, gin=gin))
    assert "columns of the next observation" in capsys.readouterr().out
    samples = Transitions.load(folder / "samples.npz")
    found = samples.metadata["generator"]["consistency"]
    assert "rewards" in found["replaced"]
    assert "next_observations[0]" in found["replaced"]
    verdict = json.loads((folder / "fidelity.json").read_text())["synthetic"]["verdict"]
    assert verdict["numbers"]["conditional_ratio"] < 2

    again = ("--load_checkpoint", "--save_file_name", "again.npz", "--consistency")
    before = (folder / "model-60.pt").stat().st_mtime_ns
    main(arguments(dataset, folder, *again, "off", gin=gin))
    plain = Transitions.load(folder / "again.npz")
    assert "consistency" not in plain.metadata["generator"]
    gaps = [
        np.square(each.next_observations - each.observations).mean() for each in (samples, plain)
    ]
    assert gaps[0] < 0.1 * gaps[1]
    main(arguments(dataset, folder, *again, "ensemble"))
    same = Transitions.load(folder / "again.npz")
    for name, array in samples.arrays().items():
        np.testing.assert_array_equal(array, getattr(same, name))
    assert (folder / "model-60.pt").stat().st_mtime_ns == before
    assert _on_the_fly(folder) < 0.1 * gaps[1]
    assert _on_the_fly(folder, consistency="off") > 0.5 * gaps[1]


def _on_the_fly(folder: Path, **options: Any) -> float:
    """Mean squared difference of next observation and observation, of rows made on the fly."""
    layout = TransitionLayout(3, 2)
    generate = rows_of_model(folder / "model-60.pt", layout, "cpu", num_steps=4, **options)
    rows = layout.unpack(generate(200, torch.Generator().manual_seed(0)).numpy())
    return float(np.square(rows.next_observations - rows.observations).mean())


def test_without_an_ensemble_on_the_fly_says_how_to_get_one(dataset: Path, tmp_path: Path) -> None:
    main(arguments(dataset, tmp_path / "run", "--no_save_samples"))
    with pytest.raises(ConfigError, match=r"no ensemble in .*model-60\.pt: sample from it once"):
        _on_the_fly(tmp_path / "run", consistency="ensemble")


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (5_000_000, "5m_samples.npz"),
        (50_000, "50k_samples.npz"),
        (12_345, "12345_samples.npz"),
        (1, "1_samples.npz"),
    ],
)
def test_the_file_of_samples_is_named_by_their_number(rows: int, name: str) -> None:
    assert samples_name(rows) == name


def test_actions_keep_their_units_from_the_data_to_the_samples(tmp_path: Path) -> None:
    """Pendulum-v1 takes -2 to 2; without its name the range is the caller's, or the data's own."""
    rows = random_transitions(200, 3, 1)
    own = replace(rows, actions=2 * rows.actions, metadata={"env_id": "Pendulum-v1"})
    nameless = replace(own, metadata={})
    said = ("--action_low", "-3", "--action_high", "3")
    cases = {"own": (own, (), -2), "said": (nameless, said, -3), "silent": (nameless, (), None)}
    for name, (data, flags, low) in cases.items():
        data.save(tmp_path / f"{name}.npz")
        folder = tmp_path / name
        main(arguments(tmp_path / f"{name}.npz", folder, *flags))
        samples = Transitions.load(folder / "samples.npz")
        assert 1 < np.abs(samples.actions).max() <= (3 if low == -3 else 2)
        assert samples.metadata.get("action_low") == (low and [low])
        scores = json.loads((folder / "fidelity.json").read_text())
        assert scores["training"]["actions_at_bounds"] < 0.02
        learnt = checkpoint.load(folder / "model-60.pt")["trained_on"]
        assert learnt.get("action_low") == (low and [low])
        drawn = rows_of_model(folder / "model-60.pt", TransitionLayout(3, 1), "cpu", num_steps=4)
        assert 1 < drawn(500, torch.Generator().manual_seed(0))[:, 3].abs().max() <= 3


def test_load_checkpoint_keeps_the_split_and_the_data_of_the_training(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    main(arguments(dataset, folder, "--seed", "3"))
    samples = Transitions.load(folder / "samples.npz")
    held_out = json.loads((folder / "fidelity.json").read_text())["training"]
    main(arguments(dataset, folder, "--load_checkpoint", "--seed", "8", "--held_out", "0.5"))
    assert "held out from training: 20 rows, seed 3" in capsys.readouterr().out
    assert json.loads((folder / "fidelity.json").read_text())["training"] == held_out
    again = Transitions.load(folder / "samples.npz")
    assert again.metadata["trained_on"] == samples.metadata["trained_on"]
    others = replace(random_transitions(200, seed=5), metadata={"env_id": "Walker2d-v2"})
    others.save(tmp_path / "others.npz")
    with pytest.raises(SystemExit):
        main(arguments(tmp_path / "others.npz", folder, "--load_checkpoint"))
    message = capsys.readouterr().err
    assert "model-60.pt: was trained on 200 rows of data, and --dataset" in message
    assert Transitions.load(folder / "samples.npz").metadata["env_id"] == "Hopper-v2"

"""The command: every gin file in a debug run, the replay it saves, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synther.datasets import load_dataset
from synther.datasets.hdf5_writer import write_hdf5
from synther.online import online_exp
from synther.online.online_exp import build_parser, main
from synther.runs.loggers import read_metrics
from synther.transitions import Transitions
from tests.events import assert_shows
from tests.online.helpers import logs, tiny_run

SHORT = (
    "redq_sac.epochs = 2", "redq_sac.steps_per_epoch = 20", "redq_sac.start_steps = 10",
    "redq_sac.n_evals_per_epoch = 1", "redq_sac.max_ep_len = 15", "redq_sac.n_mc_eval = 5",
    "redq_sac.retrain_diffusion_every = 20", "redq_sac.num_samples = 30",
    "REDQTrainer.train_num_steps = 20", "SimpleDiffusionGenerator.num_sample_steps = 3",
)  # fmt: skip


def words(folder: Path, env: str, *more: str, gin: tuple[str, ...] = ()) -> list[str]:
    return [
        *("--env", env, "--results_folder", str(folder), "--debug", "--device", "cpu"),
        *("--threads", "1", *more, "--gin_params", *SHORT, *gin),
    ]


def run_folder(folder: Path, name: str) -> Path:
    return folder / name / f"{name}_s0"


def test_help_names_every_flag_of_the_2023_release(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for flag in (
        "--env", "--seed", "--exp_name", "--data_dir", "--results_folder", "--debug",
        "--project_name", "--gin_config_files", "--gin_params", "--resume", "--device",
        "--wandb-mode", "--save_replay",
    ):  # fmt: skip
        assert re.search(rf"{flag}\b", text), flag


def test_the_readme_s_words_are_understood() -> None:
    line = (
        "--env HalfCheetah-v2 --results_folder online_logs/ --exp_name SynthER "
        "--gin_config_files 'config/online/sac_synther_openai.gin' "
        "--gin_params 'redq_sac.utd_ratio = 20' 'redq_sac.num_samples = 1000000'"
    )
    parsed = build_parser().parse_args(shlex.split(line))
    assert parsed.results_folder == Path("online_logs")
    assert parsed.gin_config_files == ["config/online/sac_synther_openai.gin"]
    assert parsed.gin_params == ["redq_sac.utd_ratio = 20", "redq_sac.num_samples = 1000000"]


@pytest.mark.parametrize(
    ("file", "env", "refills"),
    [
        ("sac", "HalfCheetah-v2", []),
        ("redq", "Counter-v0", []),
        ("sac_synther_openai", "HalfCheetah-v2", [20]),
        pytest.param("sac_synther_dmc", "quadruped-walk-v0", [20], marks=pytest.mark.slow),
        ("sac_synther_dmc", "reacher-hard-v0", [20]),
    ],
)
def test_debug_runs(file: str, env: str, refills: list[int], tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    config = ("--gin_config_files", f"config/online/{file}.gin", "--exp_name", "try")
    main(words(tmp_path, env, *config))
    folder = run_folder(tmp_path, f"try_{env}")
    assert [each["step"] for each in read_metrics(folder / "metrics.jsonl")] == [20, 40]
    assert [each["step"] for each in read_metrics(folder / "refills.jsonl")] == refills
    assert len(logs(folder)["progress"]) == 2
    text = (folder / "config.gin").read_text()
    assert "redq_sac.target_entropy = 'auto'" in text
    assert "redq_sac.steps_per_epoch = 20" in text
    assert list(folder.glob("diffusion/round-0/model-20.pt")) == [
        folder / "diffusion" / "round-0" / "model-20.pt"
    ] * bool(refills)


def test_tensorboard_shows_what_metrics_jsonl_has(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    main(words(tmp_path, "Counter-v0", "--exp_name", "try", "--tensorboard"))
    folder = run_folder(tmp_path, "try_Counter-v0")
    assert_shows(folder, read_metrics(folder / "metrics.jsonl"))


def test_the_saved_replay_is_the_run_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_exp, "DEBUG", (*online_exp.DEBUG, "redq_sac.replay_size = 25"))
    paths = [tmp_path / "out" / name for name in ("replay.hdf5", "replay.npz")]
    for path, more in zip(paths, ((), ("--resume",)), strict=True):
        main(words(tmp_path, "Counter-v0", "--save_replay", str(path), *more))
    whole = Transitions.load(paths[1])
    count, episode = whole.observations[:, 1], whole.observations[:, 0]
    assert len(whole) == 25
    np.testing.assert_array_equal(whole.terminals, (episode % 2 == 1) & (count == 3))
    timeout = (episode % 2 == 0) & (count == 5)
    assert timeout.sum() == 3 - (episode[0] % 2)
    np.testing.assert_array_equal(whole.timeouts, timeout)
    for terminate_on_end in (True, False):
        loaded = load_dataset(paths[0], terminate_on_end=terminate_on_end)
        kept = ~timeout | terminate_on_end
        for name, column in whole.arrays().items():
            np.testing.assert_array_equal(getattr(loaded, name), column[kept], err_msg=name)
    for metadata in (loaded.metadata, whole.metadata):
        assert metadata["command"].startswith("python3 synther/online/online_exp.py --env Counter")
        assert (metadata["seed"], metadata["steps"], metadata["env_id"]) == (0, 40, "Counter-v0")
        assert set(metadata["action_low"]) == {-1}  # whatever the environment takes itself


def test_seed_and_environment_may_be_bound_too(tmp_path: Path) -> None:
    bound = ("redq_sac.env_name = 'Counter-v0'", "redq_sac.seed = 4")
    without = words(tmp_path, "Counter-v0", gin=bound)[2:]
    main(without)
    main(["--seed", "5", *without])
    names = {path.parent.name for path in tmp_path.rglob("run.json")}
    assert names == {"redq_sac_Counter-v0_s4", "redq_sac_Counter-v0_s5"}


def test_a_second_run_moves_the_first_and_resume_needs_its_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path, "redq_sac_Counter-v0")
    main(words(tmp_path, "Counter-v0", gin=("redq_sac.lr = 0.01",)))
    first = (folder / "metrics.jsonl").read_text()
    with pytest.raises(SystemExit) as stopped:
        main(words(tmp_path, "Counter-v0", "--resume", gin=("redq_sac.gamma = 0.5",)))
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert "redq_sac.lr: then 0.01, now not set" in message
    assert "redq_sac.gamma: then not set, now 0.5" in message
    assert (folder / "metrics.jsonl").read_text() == first
    main(words(tmp_path, "Counter-v0"))
    assert (folder / "previous-1" / "metrics.jsonl").read_text() == first
    assert "previous-1" in capsys.readouterr().out.replace("\n", "")
    assert json.loads((folder / "run.json").read_text())["env"] == "Counter-v0"


DIFFUSION = (
    *("--gin_config_files", "config/online/sac_synther_dmc_small.gin"),
    "--gin_params",
)
BAD = [
    (("--gin_params", "redq_sac.utd_ratio=0"), r"redq_sac\.utd_ratio is 0, expected 1 or more"),
    (("--gin_params", "redq_sac.utd_ration=3"), r"'utd_ration'.*utd_ratio"),
    (("--gin_params", "redq_sack.utd_ratio=3"), "redq_sack.*redq_sac"),
    (("--gin_params", "redq_sac.lr='fast'"), r"redq_sac\.lr is 'fast', expected float"),
    (("--gin_config_files", "config/online/sak.gin"), r"config/online/sak\.gin"),
    (("--env", "HalfCheeta-v2"), "HalfCheeta-v2.*HalfCheetah-v2"),
    (("--env", "CartPole-v1"), "CartPole"),
    (("--device", "gpu"), "expected auto, cpu, cuda"),
    (("--seed", "-1"), r"--seed: '-1': expected 0 or more"),
    (("--save_replay", "replay.csv"), r"replay\.csv: expected a name in \.hdf5"),
    (("--gin_params", "redq_sac.disable_diffusion=False"), r"not configured.*sac_synther_dmc\.gin"),
    (
        (*DIFFUSION, "SimpleDiffusionGenerator.target='top 10%'"),
        r"SimpleDiffusionGenerator\.target is 'top 10%', which.*redq_sac\.relevance and redq_sac",
    ),
    (
        (*DIFFUSION, "redq_sac.relevance='reward'", "SimpleDiffusionGenerator.guidance=3.0"),
        r"SimpleDiffusionGenerator\.guidance is 3\.0, .*redq_sac\.guidance: bind that instead",
    ),
    (
        (*DIFFUSION, "condition.name='reward'"),
        r"condition\.name is 'reward', which is.* redq_sac\.relevance: bind that instead",
    ),
]


@pytest.mark.parametrize(("more", "expected"), BAD)
def test_bad_input_is_one_message_and_costs_nothing(
    more: tuple[str, ...], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = run_folder(tmp_path, "redq_sac_Counter-v0")
    earlier.mkdir(parents=True)
    (earlier / "run.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        main([*("--env", "Counter-v0", "--results_folder", str(tmp_path), "--debug"), *more])
    assert stopped.value.code != 0
    message = capsys.readouterr().err
    assert re.search(expected, message)
    assert "Traceback" not in message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [earlier / "run.json"]


@pytest.mark.parametrize("mode", ["cudagraph", "max"])
def test_graphs_need_a_gpu_and_an_earlier_run_stays(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(words(tmp_path, "Counter-v0"))
    folder = run_folder(tmp_path, "redq_sac_Counter-v0")
    kept = (folder / "metrics.jsonl").read_text()
    graphs = words(tmp_path, "Counter-v0", "--device", "cpu", gin=(f"redq_sac.compile = '{mode}'",))
    with pytest.raises(SystemExit):
        main(graphs)
    assert "needs a CUDA device, this is cpu" in capsys.readouterr().err
    assert (folder / "metrics.jsonl").read_text() == kept


def test_an_error_while_the_replay_is_written_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "replay.hdf5"
    finished = tiny_run(None, epochs=1)
    finished.train()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    def write_and_fail(*arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            write_hdf5(*arguments)

    monkeypatch.setattr(online_exp, "OnlineRun", lambda *_, **__: finished)
    monkeypatch.setattr(online_exp, "write_hdf5", write_and_fail)
    with pytest.raises(SystemExit):
        main(words(tmp_path / "logs", "Counter-v0", "--save_replay", str(path)))
    assert "no space left on device" in capsys.readouterr().err
    assert not list(path.parent.iterdir())

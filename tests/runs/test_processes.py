"""Two real processes against one: the same batches, the same noise, the same rows."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from synther.diffusion.train_diffuser import main
from synther.files import checkpoint
from synther.runs.loggers import read_metrics
from synther.runs.processes import ALONE, Processes, accelerator_for, one_report
from synther.transitions import Transitions
from tests.diffusion.test_train_diffuser import equal
from tests.runs.shared_work import (
    BATCH,
    ROWS,
    SAMPLE_BATCH,
    STEPS,
    generator_of,
    state,
    trainer_of,
)

REPOSITORY = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launched(count: int, folder: Path) -> list[dict[str, Any]]:
    """What each of ``count`` processes found, which are started as launchers start them."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    command = [sys.executable, "-m", "tests.runs.shared_work", str(folder)]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    for process in started:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="module")
def pair(folder: Path) -> list[dict[str, Any]]:
    return launched(2, folder)


@pytest.fixture(scope="module")
def alone(folder: Path, pair: list[dict[str, Any]]) -> dict[str, Any]:
    """The pair's runs in this process; it resumes from the pair's checkpoint, not its own."""
    runs = {"whole": trainer_of(None), "resumed": trainer_of(folder / "whole", seed=77)}
    runs["accumulated"] = trainer_of(None, 20, gradient_accumulate_every=3)
    runs["larger"] = trainer_of(None, 20, small_batch_size=2 * BATCH)
    runs["resumed"].load(150)
    losses = []
    step = runs["whole"].training_step
    update = step.update
    step.update = lambda batches: losses.append(update(batches)) or losses[-1]  # type: ignore[func-returns-value, method-assign]
    for trainer in runs.values():
        trainer.train()
    return {name: state(trainer) for name, trainer in runs.items()} | {
        "losses": [float(np.mean(losses[at : at + 10])) for at in range(0, STEPS, 10)]
    }


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Weights to the rounding of float32 sums; generators and counters to the bit."""
    for key in ("rng", "order", "step"):
        assert equal(found[key], expected[key]), key
    for name, value in expected["ema"].items():
        torch.testing.assert_close(found["ema"][name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_messages(pair: list[dict[str, Any]]) -> None:
    for each in pair:
        assert each["first's"] == "rank 0"
        assert each["agree"] == [True, False]
        assert each["gathered"].tolist() == [[0, 7], [1, 7]]


def test_all_processes_hold_the_same_bits(pair: list[dict[str, Any]]) -> None:
    """Also where they came with other weights and without a seed."""
    first, second = pair
    for name in ("start", "whole", "resumed", "accumulated"):
        for key in ("ema", "opt", "rng", "order", "step"):
            assert equal(first[name][key], second[name][key]), (name, key)
    assert not equal(first["whole"]["totals"], second["whole"]["totals"]) or not any(
        first["whole"]["totals"]
    )


@pytest.mark.parametrize("run", ["whole", "accumulated"])
def test_they_train_what_one_process_would(
    run: str, pair: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    assert_close(pair[0][run], alone[run])
    assert not equal(pair[0][run]["ema"], pair[0]["start"]["ema"])  # it was trained


def test_the_loss_curve_is_that_of_one_process(
    folder: Path, pair: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    records = read_metrics(folder / "log-0" / "metrics.jsonl")
    assert [each["step"] for each in records] == list(range(10, STEPS + 1, 10))
    np.testing.assert_allclose([each["loss"] for each in records], alone["losses"], rtol=1e-4)
    other = read_metrics(folder / "log-1" / "metrics.jsonl")
    assert [each["loss"] for each in records] == [each["loss"] for each in other]


def test_a_resumed_run_ends_with_the_same_bits(folder: Path, pair: list[dict[str, Any]]) -> None:
    for each in pair:
        assert equal(each["resumed"], each["whole"])
    assert list(checkpoint.steps(folder / "whole", "model")) == [150, STEPS]


@pytest.mark.slow
def test_sums_of_three_resume_to_the_same_bits(tmp_path: Path) -> None:
    """Where, unlike with two, it shows in which order numbers are added."""
    for each in launched(3, tmp_path):
        assert equal(each["resumed"], each["whole"])


def test_a_run_goes_on_in_another_number_of_processes(
    pair: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    assert_close(alone["resumed"], pair[0]["whole"])


def test_batches_that_are_not_split_are_added_up(
    pair: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    batch_size, found = pair[0]["larger"]
    assert batch_size == 2 * BATCH
    assert_close(found, alone["larger"])


def test_one_clock_says_when_a_resume_point_is_due(pair: list[dict[str, Any]]) -> None:
    for each in pair:
        assert each["resume points"] == [10, 20]


def test_all_stop_where_one_diverges(pair: list[dict[str, Any]]) -> None:
    for each in pair:
        assert re.search(r"not finite, seen at step 30; .*model-20\.pt", each["diverged"])


def test_samples_are_those_of_one_process_row_for_row(
    folder: Path, pair: list[dict[str, Any]], tmp_path: Path
) -> None:
    trainer = trainer_of(None)
    trainer.load(folder / "whole" / f"model-{STEPS}.pt")
    generator = generator_of(trainer)
    generator.sample_to_file(ROWS, tmp_path / "alone.npz", seed=5)
    found, expected = (
        Transitions.load(path) for path in (folder / "samples.npz", tmp_path / "alone.npz")
    )
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(getattr(found, name), array)
    assert ROWS % SAMPLE_BATCH
    assert not list(folder.glob(".samples*"))


def test_samples_are_distributed_like_others_of_the_model_and_none_is_there_twice(
    folder: Path, pair: list[dict[str, Any]]
) -> None:
    trainer = trainer_of(None)
    trainer.load(folder / "whole" / f"model-{STEPS}.pt")
    independent = generator_of(trainer).sample(4 * ROWS, seed=6)
    found = Transitions.load(folder / "samples.npz")
    assert len(np.unique(found.next_observations, axis=0)) == ROWS
    for ours, others in (
        (found.observations, independent[0]),
        (found.next_observations, independent[3]),
        (found.rewards[:, None], independent[2][:, None]),
    ):
        for column in range(ours.shape[1]):
            # Seven columns: one in 1400 of such comparisons would fail by chance.
            assert ks_2samp(ours[:, column], others[:, column]).pvalue > 1e-4


def test_shares_cover_a_batch_and_differ_by_one_row_at_most() -> None:
    for count in (1, 2, 3, 7):
        shares = [_rank(rank, count).share(33) for rank in range(count)]
        rows = [row for share in shares for row in range(33)[share]]
        assert rows == list(range(33))
        assert len({-(-33 // count), 33 // count} | {s.stop - s.start for s in shares}) <= 2
    with pytest.raises(ValueError, match="3 rows cannot be shared by 4 processes"):
        _rank(0, 4).share(3)


def _rank(rank: int, count: int) -> Processes:
    processes = Processes()
    processes.rank, processes.count = rank, count
    return processes


def test_two_accelerators_in_one_process() -> None:
    cpu = torch.device("cpu")
    assert accelerator_for(cpu).device == accelerator_for(cpu).device == cpu


def test_alone_it_sends_no_message() -> None:
    assert ALONE.is_first
    assert ALONE.decided_by_first(3) == 3
    assert ALONE.gather(torch.arange(2)).tolist() == [[0, 1]]


def test_more_processes_than_gpus_and_a_named_gpu_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    with pytest.raises(ValueError, match=r"64 processes were launched for .* GPUs"):
        accelerator_for(torch.device("cuda"))
    with pytest.raises(ValueError, match="not 'cuda:1', cuda"):
        accelerator_for(torch.device("cuda:1"))


def test_what_fails_early_is_reported_by_the_first_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError), one_report():
        raise KeyError
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit), one_report():
        raise KeyError


def test_one_process_complains_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, complains in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as stopped:
            main(["--held_out", "7"])
        assert stopped.value.code == 2
        assert ("--held_out: '7'" in capsys.readouterr().err) == complains


def test_a_precision_that_has_no_effect_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.warns(UserWarning, match="fp16 of the launcher has no effect"):
        accelerator_for(torch.device("cpu"))


def test_a_process_that_was_lost_has_a_message() -> None:
    with (
        pytest.raises(ConnectionError, match="another process of this run has ended"),
        one_report(),
    ):
        raise RuntimeError("[pair.cc:544] Connection closed by peer [127.0.0.1]:31337")

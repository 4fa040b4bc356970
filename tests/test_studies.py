"""What the commands of the studies share: jobs that end together, and flags that are checked."""

from __future__ import annotations

import functools
import importlib
import itertools
import platform
import runpy
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.signals import hear_ctrl_c

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STUDIES = ("when_does_it_help", "row_quality", "row_quality_law", "offline_learning",
           "online_learning", "guided_study", "sampler_learning")  # fmt: skip
LONG = 30
"""Seconds that nothing here should need."""


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    known = set(sys.modules)
    yield importlib.import_module("studies")
    for name in set(sys.modules) - known:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]


def test_all_jobs_are_done_in_their_order(shared: Any) -> None:
    done: list[int] = []
    shared.do_all([functools.partial(done.append, number) for number in range(5)], 1)
    assert done == [0, 1, 2, 3, 4]


def test_as_many_jobs_as_workers_run_at_a_time(shared: Any) -> None:
    both = threading.Barrier(2, timeout=LONG)
    shared.do_all([both.wait, both.wait], 2)


def test_a_failing_job_stops_those_that_wait_and_is_told(shared: Any) -> None:
    """The one beside it ends first, but takes no further step."""
    begun, failed = threading.Event(), threading.Event()
    steps: list[str] = []

    def fails() -> None:
        begun.wait(LONG)
        failed.set()
        raise OSError("no room")

    def beside() -> None:
        begun.set()
        failed.wait(LONG)
        for step in itertools.count():
            shared.go_on()
            steps.append(f"step {step}")
            threading.Event().wait(0.01)

    waiting = functools.partial(steps.append, "waiting")
    with pytest.raises(OSError, match="no room"):
        shared.do_all([fails, beside, *[waiting] * 20], 2)
    assert "waiting" not in steps
    shared.do_all([shared.go_on, waiting], 1)  # which that failure does not concern
    assert steps[-1] == "waiting"


@pytest.fixture
def heard() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    hear_ctrl_c()
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_stops_the_jobs_that_wait(
    shared: Any, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is of somebody to whom what runs ends too slowly."""
    done: list[str] = []
    submitted, left, ended, never = (threading.Event() for _ in range(4))
    wait = shared.wait

    def watched(*arguments: Any, **options: Any) -> Any:
        submitted.set()
        return wait(*arguments, **options)

    def press() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def runs() -> None:
        submitted.wait(LONG)
        press()
        for _ in range(LONG * 100):
            never.wait(0.01)
            try:
                shared.go_on()
            except shared.StudyEndsError:
                break
        if times == 2:
            never.wait(0.2)  # for the main thread to wait for this one
            press()
            left.wait(LONG)
        done.append("what ran ended")
        ended.set()

    monkeypatch.setattr(shared, "wait", watched)
    waiting = functools.partial(done.append, "waiting")
    with pytest.raises(KeyboardInterrupt):
        shared.do_all([runs, *[waiting] * 20], 1)
    left.set()
    ended.wait(LONG)
    never.wait(0.1)  # in which the next job would begin
    assert done == ["what ran ended"]


def test_no_process_is_started_once_the_study_ends(shared: Any, tmp_path: Path) -> None:
    """Jobs that wait for what another one prepares begin to prepare it themselves, if they may."""
    offline_learning = importlib.import_module("offline_learning")
    fails, waits = threading.Event(), threading.Event()

    def failing() -> None:
        waits.wait(LONG)
        try:
            raise OSError("no room")
        finally:
            threading.Timer(0.2, fails.set).start()

    def preparing() -> None:
        waits.set()
        fails.wait(LONG)
        offline_learning.start(tmp_path / "log", "-c", "pass")

    with pytest.raises(OSError, match="no room"):
        shared.do_all([failing, preparing], 2)
    assert not (tmp_path / "log").exists()


def run(script: str, *words: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / f"{script}.py"), run_name="__main__")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("script", STUDIES)
def test_ctrl_c_ends_a_study_with_a_word(
    script: str, shared: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shared, "do_all", interrupted)
    monkeypatch.setattr(importlib.import_module("offline_learning"), "start", interrupted)
    (tmp_path / "known-law.npz").touch()
    assert run(script, "--folder", tmp_path, monkeypatch=monkeypatch) == 130
    assert capsys.readouterr().err.split() == ["stopped"]


@pytest.mark.parametrize("script", STUDIES)
def test_a_study_without_workers_is_refused(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, "--workers", 0, monkeypatch=monkeypatch) == 2
    assert "--workers: '0': expected 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "words", "near"),
    [
        ("when_does_it_help", ("--only", "hoper-medium-15pct*"), "hopper-medium-15pct-r0-new"),
        ("row_quality", ("--only", "hopper*,hopper-demo-v0-raal*"), "hopper-demo-v0-real-iql"),
        ("offline_learning", ("--runs", "iq-*"), "iql-hopper-5pct-real"),
        ("online_learning", ("--only", "cheeta-run"), "SAC_cheetah-run-v0_s0"),
        ("guided_study", ("--only", "onlin-cheetah*"), "online-cheetah-run-v0-SAC-s"),
        ("job_times", ("--only", "ddpg"), "td3_bc"),
    ],
)  # fmt: skip
def test_a_pattern_that_fits_no_run_is_refused_and_names_are_shown(
    script: str, words: tuple[str, str], near: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(script, *words, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert "no such" in said
    assert near in said
    assert len(said.splitlines()[-1]) < 400


def test_runs_are_chosen_by_any_of_the_patterns_in_their_own_order(shared: Any) -> None:
    runs = {name: name.upper() for name in ("one", "two", "three")}
    assert shared.chosen(None, "--only", "t*", runs) == ["TWO", "THREE"]
    assert shared.chosen(None, "--only", "three,o*", runs) == ["ONE", "THREE"]


@pytest.mark.parametrize(
    ("there", "asked"),
    [((), [False]), (("run.json",), [True]), (("run.json", "model-4000.pt"), [True]),
     (("run.json", "model-8000.pt"), [])],
)  # fmt: skip
def test_the_samplers_are_compared_on_a_finished_model(
    there: tuple[str, ...], asked: list[bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``asked``: of each training that is begun, whether it goes on with another."""
    sampler_learning = importlib.import_module("sampler_learning")
    started: list[bool] = []

    def start(log: Path, *words: object) -> None:
        assert "Trainer.train_num_steps=8000" in words
        started.append("--resume" in words)

    monkeypatch.setattr(sampler_learning, "start", start)
    (tmp_path / "diffusion").mkdir()
    for name in there:
        (tmp_path / "diffusion" / name).touch()
    sampler_learning.train_model(tmp_path)
    assert started == asked


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("script", "arguments", "result"),
    [("offline_learning", ("iql-hopper-5pct-synther",), "iql-hopper-5pct-synther/result.json"),
     ("sampler_learning", ("iql", "fast"), "iql-fast.json")],
)  # fmt: skip
def test_agents_go_on_once_and_their_results_do_not_tell_the_folder(
    script: str, arguments: tuple[str, ...], result: str, begun: bool,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    offline_learning = importlib.import_module("offline_learning")
    study = importlib.import_module(script)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    folder = tmp_path / "folder"
    started: list[tuple[str, bool]] = []

    def start(log: Path, *words: object) -> None:
        started.append((Path(str(words[0])).stem, "--resume" in words))
        if started[-1][0] == "iql":
            home = Path(str(words[words.index("--checkpoints_path") + 1])) / "a-run"
            home.mkdir(parents=True, exist_ok=True)
            for name in ("result.json", "metrics.jsonl"):
                (home / name).write_text(f"in {folder}")

    monkeypatch.setattr(offline_learning, "start", start)
    if script == "offline_learning":
        (run,) = (each for each in study.study() if each.name == arguments[0])
        train = functools.partial(study.train, folder, run, threading.Lock())
    else:
        train = functools.partial(study.train, folder, *arguments)
    folder.mkdir()
    if begun:
        name = result.partition("/")[0].removesuffix(".json")
        (folder / "runs" / name / "a-run").mkdir(parents=True)
    train()
    train()
    model = [("train_diffuser", False)] if script == "offline_learning" else []
    assert started == [*model, ("iql", begun)]
    assert (tmp_path / "results" / result).read_text() == f"in {script}"


CORE = "processor\t: {0}\nmodel name\t: Some Processor {0}\nflags\t\t: fpu {1}\nbogomips\t: 1\n\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [("sse avx2 avx512f amx_bf16", ", AMX"), ("avx2 avx512f", ", AVX-512"), ("avx2", ", AVX2"),
     ("sse2 avx512_bf16", "")],
)  # fmt: skip
def test_processors_of_one_name_are_told_apart_by_their_instructions(
    flags: str, said: str, shared: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CORE.format(0, flags) + CORE.format(1, "avx2"))
    monkeypatch.setattr(shared, "CPUINFO", path)
    assert shared.processor() == f"Some Processor 0{said}"
    assert shared.processor_name() == "Some Processor 0"
    path.unlink()
    assert shared.processor() == platform.processor()

"""``synther VERB`` runs the commands that there are, and says what it does not know."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synther
from synther import __main__ as program
from synther.transitions import Transitions
from synther.upsampling import Upsampler, command
from tests.data import random_transitions

VERBS = [*(verb for verb in program.VERBS if verb != "offline")]
VERBS += [f"offline {name}" for name in program.ALGORITHMS]


def said_by(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "synther", *words], capture_output=True, text=True)


def test_help_is_there_at_once_because_nothing_is_imported() -> None:
    script = """
import sys
from synther.__main__ import main
main(["--help"])
print(sorted(name for name in sys.modules if name.startswith("synther.")), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    light = [f"synther.{each}" for each in ("__main__", "runs", "runs.interrupts", "suggestions")]
    assert done.stdout.splitlines()[-1] == f"{light} False", done.stderr
    for verb in program.VERBS:
        assert re.search(rf"^  {verb} ", done.stdout, re.MULTILINE)


def test_every_verb_has_a_module_and_every_algorithm_a_verb() -> None:
    for verb in program.VERBS.values():
        assert importlib.util.find_spec(verb.module), verb.module
    from synther.sweeps.algorithms import shipped

    assert sorted(program.ALGORITHMS) == list(shipped())


@pytest.mark.parametrize("verb", ["upsample", "report", "offline td3_bc", "offline TD3-BC"])
def test_a_verb_is_a_command_under_its_own_name(verb: str) -> None:
    done = said_by(*verb.lower().split(), "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: synther {verb.lower().replace('-', '_')}" in done.stdout


def test_version() -> None:
    assert said_by("--version").stdout == f"synther {synther.__version__}\n"
    setup = Path(__file__).parents[1] / "setup.py"
    done = subprocess.run(
        [sys.executable, str(setup), "--version"], cwd=setup.parent, capture_output=True, text=True
    )
    assert done.stdout.strip().splitlines()[-1] == synther.__version__, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["upsampel"], "synther: 'upsampel' is unknown; did you mean upsample?"),
        (["zzz"], "expected one of upsample, advise, train, "),
        (["offline", "td3"], "synther offline: 'td3' is unknown; did you mean td3_bc?"),
    ],
)
def test_an_unknown_word_gets_the_nearest(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        program.main(words)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_upsample_writes_a_file_of_new_transitions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = random_transitions(300)
    data.save("data.npz")
    words = "data.npz --steps 20 --width 16 --consistency off --save-model model.pt --device cpu"
    command.main(words.split())
    found = Transitions.load("data-synthetic.npz")
    assert len(found) == 300
    assert found.observation_dim == data.observation_dim
    command.main([*words.split(), "--num", "40", "--output", "few.npz"])
    np.testing.assert_array_equal(
        Transitions.load("few.npz").actions, found.actions[:40], err_msg="the same seed"
    )
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["model.pt", "few.npz: 40 synthetic transitions"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("none.npz", "none.npz"),
        ("data.npz --output samples.csv", "--output samples.csv: expected a name in .npz"),
        ("data.npz --sampler slow", "sampler is 'slow'"),
    ],
)
def test_upsample_refuses_what_it_cannot_do(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    random_transitions(300).save("data.npz")
    with pytest.raises(SystemExit) as end:
        command.main(words.split())
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--output data.npz", "--output data.npz: is the file that the command reads (data.npz)"),
        ("--output link.npz", "--output link.npz: is the file that the command reads (data.npz)"),
        ("--output other.npz", "--output other.npz: is there already"),
        ("--num 10 --output many.npz", "many.npz: holds 40 samples, and --num 10 would"),
        ("--save_model data.npz", "--save_model data.npz: is the file that the command reads"),
        ("--save_model other.npz", "--save_model other.npz: is there already"),
        ("--save_model new --output ./new.npz", None),
        ("--save_model new.npz --output ./new.npz", "--save_model new.npz: is --output too"),
    ],
)
def test_upsample_writes_over_nothing_that_somebody_may_need(
    words: str, message: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    random_transitions(300).save("data.npz")
    random_transitions(60).save("other.npz")
    replace(random_transitions(40), metadata={"source": "SynthER"}).save("many.npz")
    Path("link.npz").symlink_to("data.npz")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fitted: list[Any] = []

    def fit(self: Upsampler, data: Any, values: Any = None) -> None:
        fitted.append(data)
        raise ValueError("it begins")

    monkeypatch.setattr(Upsampler, "fit", fit)
    with pytest.raises(SystemExit) as end:
        command.main(["data.npz", "--device", "cpu", *words.split()])
    assert end.value.code == 1
    if message is None:
        assert fitted
    else:
        assert message in capsys.readouterr().err
        assert not fitted
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_upsample_replaces_its_own_samples_and_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random_transitions(300).save("data.npz")
    words = "data.npz --num 40 --steps 5 --width 16 --consistency off --device cpu"
    words += " --output new.npz --save-model model.pt"
    for seed in ("1", "2"):
        command.main([*words.split(), "--seed", seed])
    assert Transitions.load("new.npz").metadata["synther"]["seed"] == 2
    assert Upsampler.load("model.pt", "cpu").seed == 2

"""``benchmarks/gpu_check.py`` passes on an emulated device, and fails where something is wrong."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from synther.corl.algorithms.td3_bc import TD3BC
from synther.learning import graphs, streams
from synther.learning.replay import Batch
from tests.fake_cuda import guard
from tests.fake_cuda.helpers import only_emulated

ROOT = Path(__file__).parents[2]
PARTS = ["machine", "parity", "graphs", "noise", "waits", "resume", "memory", "end_to_end"]
"""Without ``tests``, which ``test_on_emulated_device.py`` starts, and ``speed``."""


@pytest.mark.skipif(torch.cuda.is_available(), reason="make gpu-check does it on this CUDA device")
def test_all_parts_but_speed_pass_on_an_emulated_device(tmp_path: Path) -> None:
    if reason := guard.obstacle():
        pytest.skip(reason)
    command = [sys.executable, "-m", "tests.fake_cuda", "benchmarks/gpu_check.py", "--quick"]
    command += ["--skip", "speed", "--skip", "tests", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    found = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    assert list(found) == PARTS
    assert {each["status"] for each in found.values()} == {"passed"}
    assert all(each["checks"] for each in found.values())
    page = (tmp_path / "gpu_check.md").read_text()
    assert all(f"| {name} | passed |" in page for name in PARTS)


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module; its parts are beside it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu_check")


critic_loss = TD3BC.critic_loss


def wrong_product(self: TD3BC, batch: Batch, noise: Tensor) -> Any:
    """As if a kernel of the GPU lost digits."""
    worse = 1.0 + 1e-4 * batch.rewards.is_cuda
    return critic_loss(self, batch._replace(rewards=worse * batch.rewards), noise)


def waiting(self: TD3BC, batch: Batch, noise: Tensor) -> Any:
    loss, metrics = critic_loss(self, batch, noise)
    if not torch.cuda.is_current_stream_capturing():
        float(loss.detach())
    return loss, metrics


def stale(self: Any, inputs: Any, kind: Any) -> None:
    """Replays see the batch and the noise of the capture."""


def unfitting(generators: Any, states: Any) -> bool:
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state.cpu())
    return True


@only_emulated
@pytest.mark.gpu
@pytest.mark.parametrize(
    ("part", "where", "name", "fault", "message"),
    [
        ("parity", TD3BC, "critic_loss", wrong_product, "TD3+BC: metrics of an update"),
        ("waits", TD3BC, "critic_loss", waiting, "TD3+BC waits: called a synchronizing"),
        ("graphs", graphs.Replayed, "_feed", stale, "TD3+BC: weights after"),
        ("noise", graphs.Replayed, "_feed", stale, "replays of an update had the same"),
        ("resume", streams, "restore_generators", unfitting, "Expected a CPUGeneratorImplState"),
    ],
    ids=["parity", "waits", "graphs", "noise", "resume"],
)
def test_a_fault_is_found_and_named(
    part: str,
    where: Any,
    name: str,
    fault: Callable[..., Any],
    message: str,
    gpu_check: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module, subjects in (("parity", "EVERYTHING"), ("graphs", "OFFLINE"), ("waits", "OFFLINE")):
        one = {"TD3+BC": gpu_check.graphs.OFFLINE["TD3+BC"]}
        monkeypatch.setattr(getattr(gpu_check, module), subjects, one)
    monkeypatch.setattr(gpu_check.waits, "ONLINE", {})
    monkeypatch.setattr(where, name, fault)
    assert gpu_check.main(["--quick", "--only", part, "--folder", str(tmp_path)]) == 1
    found = json.loads((tmp_path / "gpu_check.json").read_text())["parts"][part]
    assert found["status"] == "failed"
    assert any(message in each for each in found["failures"]), found["failures"]
    assert "**failed**" in (tmp_path / "gpu_check.md").read_text()


@only_emulated
@pytest.mark.gpu
def test_a_check_that_is_cut_off_leaves_what_it_had(
    gpu_check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(check: Any) -> None:
        check.note("seen", "something")
        check.expect(False, "the first [of two] comparisons")
        raise KeyboardInterrupt

    monkeypatch.setitem(gpu_check.PARTS, "machine", (1.0, cut))
    with pytest.raises(KeyboardInterrupt):
        gpu_check.main(["--quick", "--only", "machine", "--folder", str(tmp_path)])
    found = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]["machine"]
    assert (found["status"], found["notes"]) == ("cut off", {"seen": "something"})
    assert found["failures"] == ["the first [of two] comparisons"]


def test_a_cpu_cannot_be_checked(gpu_check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        gpu_check.main(["--device", "cpu"])
    assert stop.value.code == 2
    assert "--device cpu: expected a CUDA device" in capsys.readouterr().err


def test_everything_that_updates_can_be_compared_in_float64(gpu_check: Any) -> None:
    subjects = importlib.import_module("gpu_parts.subjects")
    cpu = torch.device("cpu")
    for name, build in subjects.EVERYTHING.items():
        if name == "denoiser":  # its embedding of noise levels is of float32 alone
            continue
        rounded = build(cpu, subjects.SMALL, "fp32")
        exact = subjects.in_float64(build(cpu, subjects.SMALL, "fp32"))
        metrics, expected = rounded.step(1), exact.step(1)
        assert {each.dtype for each in expected.values()} == {torch.float64}, name
        for key, each in expected.items():
            torch.testing.assert_close(metrics[key].double(), each, rtol=1e-3, atol=1e-4)
        assert all(each.dtype == torch.float64 for each in exact.gradients())

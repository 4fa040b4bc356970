"""Devices, threads and seeds."""

import os
import random

import numpy as np
import pytest
import torch

from synther.runs.runtime import (
    autocast,
    available_cpus,
    check_precision,
    cpu_threads,
    float32_products,
    resolve_device,
    say_once,
    say_what_waits,
    seed_everything,
    threads_for,
    use_deterministic_kernels,
)


def test_device_names() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == torch.device("cpu")
    for wrong in ("gpu", "cuda:x", "meta", ""):
        with pytest.raises(ValueError, match="expected auto, cpu, cuda"):
            resolve_device(wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"device 'cuda:3'.*sees 0 CUDA devices.*--device cpu"):
        resolve_device("cuda:3")


def test_a_gpu_that_will_wait_for_the_host_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say_once.cache_clear()
    gpu = torch.device("cuda:0")
    say_what_waits(torch.device("cpu"), "off", "--compile")
    say_what_waits(gpu, "cudagraph", "--compile")
    monkeypatch.setenv("RANK", "1")
    say_what_waits(gpu, "off", "Trainer.compile")
    assert capsys.readouterr().out == ""
    monkeypatch.delenv("RANK")
    for _ in range(2):
        say_what_waits(gpu, "off", "--compile")
    said = capsys.readouterr().out
    assert said.startswith("cuda:0 will wait for the host at every operation; with --compile max")
    assert said.count("\n") == 1


def test_threads_are_set_and_put_back() -> None:
    before = torch.get_num_threads()
    with cpu_threads(2):
        assert torch.get_num_threads() == 2
        with cpu_threads(0):
            assert torch.get_num_threads() == available_cpus()
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("inputs", "threads"), [(998, 1), (999, 0)])
def test_a_small_network_gets_one_thread(inputs: int, threads: int) -> None:
    # Weights and biases: 1000 * 998 + 1000 = 999 000 parameters, and 1 000 000 with a column more.
    assert threads_for(torch.nn.Linear(inputs, 1000)) == threads


def test_cores_are_shared_with_the_processes_of_one_launch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores = available_cpus()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert available_cpus() == max(cores // 2, 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert available_cpus() == 1


def test_deterministic_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    # Recorded first, so that all of it is put back.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "none")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    fills = torch.utils.deterministic.fill_uninitialized_memory
    try:
        use_deterministic_kernels()
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = fills


def test_autocast_changes_products_only_for_bf16() -> None:
    a = torch.randn(4, 4)
    with autocast(torch.device("cpu"), "fp32"):
        assert (a @ a).dtype == torch.float32
    with autocast(torch.device("cpu"), "bf16"):
        assert (a @ a).dtype == torch.bfloat16


def _draws() -> tuple[float, float, float, float]:
    legacy = np.random.normal()  # noqa: NPY002 - the state of this very generator is under test
    return random.random(), random.gauss(0, 1), float(legacy), float(torch.rand(()))


def test_the_same_seed_gives_the_same_draws() -> None:
    seed_everything(2**40 + 1)
    first = _draws()
    seed_everything(2**40 + 1)
    assert _draws() == first
    seed_everything(2**40 + 2)
    assert _draws() != first


def test_tf32_is_float32_on_a_cpu() -> None:
    a = torch.randn(4, 4)
    with autocast(torch.device("cpu"), "tf32"), float32_products(torch.device("cpu"), "tf32"):
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.equal(a @ a, a @ a)
        assert (a @ a).dtype == torch.float32


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(ValueError, match="precision 'fp16': expected one of fp32, tf32, bf16"):
        check_precision("fp16")

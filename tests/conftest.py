"""What holds for every test, so that its verdict depends on no machine, load or order.

Each runs on one CPU thread: the networks are small, and the worker beside it must not wait. Each
starts from the same state of the global generators, and leaves no setting of a process behind.
"""

import os

# Before torch is imported anywhere, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MUJOCO_GL", "egl")

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import gin
import pytest
import torch
from hypothesis import HealthCheck, settings

from synther.runs.runtime import available_cpus, seed_everything

torch.set_num_threads(1)

# An example that takes long says that the machine is busy, and so do examples that are long in
# making. tmp_path is the function's own, and its examples share it: each writes its file anew.
settings.register_profile(
    "synther",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize="CI" in os.environ,
    print_blob=True,
)
settings.load_profile("synther")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden() -> Path:
    """The folder of recorded numbers."""
    return GOLDEN


@pytest.fixture(autouse=True)
def _process_settings_put_back() -> Iterator[None]:
    """Commands set these for the whole process."""
    yield
    gin.clear_config()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)


def pytest_configure(config: pytest.Config) -> None:
    # Its business here is the order: a verdict that changes with the draws would be luck.
    config.option.randomly_reset_seed = False


def _alike(seed: int) -> Generator[None, Any, Any]:
    seed_everything(seed)
    with pytest.MonkeyPatch.context() as patch:
        # A message is one line, however long the path of the temporary folder in it is.
        patch.setenv("COLUMNS", "500")
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    """Before the fixtures of a module, which are made for whichever of its tests comes first."""
    return (yield from _alike(1))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    return (yield from _alike(2))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: one a core that this process may use; of a container's cores, its share."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        share = int(quota) // int(period)
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return available_cpus()
    return max(1, min(share, available_cpus()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)

"""pytest's plugin: every test runs on the emulated device. ``-p tests.fake_cuda.plugin``."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fake_cuda import device, host_api  # before torch

# isort: split
import pytest

device.install()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    host_api.reset()
    with device.emulated():
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with device.emulated():
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with device.emulated():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="dynamo refuses to trace an emulated device")
    for item in items:
        if "compiles" in item.keywords:
            item.add_marker(skip)

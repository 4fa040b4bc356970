"""A container's quota counts as its cores; files as the kernel writes them (man 7 cgroups)."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from synther.runs import cpus, runtime
from synther.runs.cpus import quota


def group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def found(root: Path, membership: str) -> float:
    (root / "membership").write_text(membership)
    return quota(root, root / "membership")


def test_version_2(tmp_path: Path) -> None:
    group(tmp_path, "pod/box", cpu__max="150000 100000")
    assert found(tmp_path, "0::/pod/box\n") == 1.5
    group(tmp_path, "pod", cpu__max="100000 100000")  # the parent allows less
    assert found(tmp_path, "0::/pod/box\n") == 1.0
    group(tmp_path, "free", cpu__max="max 100000")
    assert found(tmp_path, "0::/free\n") == math.inf


def test_version_2_in_a_container_that_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    group(tmp_path, "", cpu__max="200000 100000")
    assert found(tmp_path, "0::/\n") == 2.0
    assert found(tmp_path, "0::/../host/path\n") == 2.0


def test_version_1(tmp_path: Path) -> None:
    files = {"cpu__cfs_quota_us": "50000", "cpu__cfs_period_us": "100000"}
    group(tmp_path, "cpu,cpuacct/docker/abc", **files)
    lines = "3:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
    assert found(tmp_path, lines) == 0.5
    group(tmp_path, "cpu,cpuacct/docker/abc", cpu__cfs_quota_us="-1")
    assert found(tmp_path, lines) == math.inf
    group(tmp_path, "cpu", **{**files, "cpu__cfs_quota_us": "400000"})
    assert found(tmp_path, lines) == 4.0


def test_nothing_is_known_elsewhere(tmp_path: Path) -> None:
    assert quota(tmp_path, tmp_path / "none") == math.inf
    assert found(tmp_path, "garbage\n0::/gone\n") == math.inf


@pytest.mark.parametrize(("allowed", "cores"), [(0.5, 1), (1.5, 2), (math.inf, 8), (64.0, 8)])
def test_cores_are_the_quota_s_and_at_least_one(
    allowed: float, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus, "quota", lambda: allowed)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert runtime.available_cpus() == cores

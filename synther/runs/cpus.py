"""How many CPU cores a process may use: its affinity, and the quota of its container."""

from __future__ import annotations

import math
import os
from pathlib import Path

MOUNTED, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may be scheduled on, and no more than its container's quota."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min(cores, quota())))


def quota(mounted: Path = MOUNTED, membership: Path = MEMBERSHIP) -> float:
    """The CPU quota of the process's control group, in cores; infinite where there is none.

    ``docker run --cpus 2`` and Kubernetes' limits leave all of a machine's cores in the affinity,
    and stop the threads for the rest of a period once their sum has used up its share. The quotas
    of a group's parents hold as well.

    Args:
        mounted: where control groups of version 1 or 2 are mounted.
        membership: a line ``number:controllers:path`` for each hierarchy (man 7 cgroups).
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # no Linux
        return math.inf
    found = [math.inf]
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            found += [_of_v2(folder) for folder in _with_parents(mounted, path)]
        elif "cpu" in controllers.split(","):
            for name in dict.fromkeys((controllers, "cpu")):
                found += [_of_v1(folder) for folder in _with_parents(mounted / name, path)]
    return min(found)


def _with_parents(root: Path, path: str) -> list[Path]:
    """The folders from a group's up to the root. In a container the path may be the host's, which
    is not there; the root is the container's group then."""
    inside = root / path.lstrip("/")
    return [inside, *(each for each in inside.parents if each == root or root in each.parents)]


def _of_v2(folder: Path) -> float:
    words = _words(folder / "cpu.max")
    return _cores(words[0], words[1]) if len(words) == 2 else math.inf


def _of_v1(folder: Path) -> float:
    words = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
    return _cores(*words) if len(words) == 2 else math.inf


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _cores(allowed: str, period: str) -> float:
    if not (allowed.isdigit() and period.isdigit()) or not int(allowed) or not int(period):
        return math.inf  # "max", or -1
    return int(allowed) / int(period)

"""How many processors this process really has."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable
from pathlib import Path

_CGROUP_2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_1 = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def usable_cpus() -> int:
    """The processors that this process may use: those that it is bound to, or fewer where its container has a share
    of them. At least one."""
    return find_share() or _bound_cpus()


@functools.cache
def find_share() -> int | None:
    """How many processors make up the share that this process's container has, if they are fewer than those that it is
    bound to; None if there is no such limit."""
    quota = find_quota((_CGROUP_2,)) or find_quota(_CGROUP_1)
    share = None if quota is None else max(1, math.ceil(quota))
    return share if share is not None and share < _bound_cpus() else None


def _bound_cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def find_quota(files: Iterable[Path]) -> float | None:
    """The share of processors that a container is held to, from `cpu.max` or the two files before it; None if there is
    no limit."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # not there, or `max`
        return None

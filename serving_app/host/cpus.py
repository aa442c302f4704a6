"""How many processors this process really has."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable
from pathlib import Path

_CGROUP_2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_1 = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


@functools.cache
def usable_cpus() -> int:
    """The processors that this process may use: those that it is bound to, or fewer where its container has a share
    of them. At least one."""
    try:
        bound = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        bound = os.cpu_count() or 1
    quota = find_quota((_CGROUP_2,)) or find_quota(_CGROUP_1)
    return max(1, bound if quota is None else min(bound, math.ceil(quota)))


def find_quota(files: Iterable[Path]) -> float | None:
    """The share of processors that a container is held to, from `cpu.max` or the two files before it; None if there is
    no limit."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # not there, or `max`
        return None

"""The machine that figures belong to."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path

from benchmarks.suite.environments import PEERS


def describe() -> dict[str, str]:
    """What a reader needs to place the figures: processor, memory, system, versions."""
    processor = _first("/proc/cpuinfo", r"model name\s*:\s*(.*)")
    kilobytes = int(_first("/proc/meminfo", r"MemTotal:\s*(\d+)") or 0)
    return {
        "processor": f"{len(os.sched_getaffinity(0))} cores of {processor}",
        "memory": f"{kilobytes / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: _version(name) for name in ("ray", "tensorflow-cpu", "grpcio", "numpy")},
        **{peer: _pinned(peer, package) for peer, package in _PACKAGES.items()},
    }


_PACKAGES = {
    "kserve": "kserve", "litserve": "litserve", "mlserver": "mlserver", "bentoml": "bentoml",
    "pytriton": "nvidia-pytriton",
}  # fmt: skip


def _first(file: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(file).read_text())
    except OSError:
        found = None
    return found[1] if found else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _pinned(peer: str, package: str) -> str:
    return _first(str(PEERS / f"{peer}.txt"), rf"(?m)^{package}==(\S+)")

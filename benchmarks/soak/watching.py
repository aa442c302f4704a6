"""Processes as the system sees them: how large they are, and whether they grow."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_MB = 1 << 20


class Sample(NamedTuple):
    """A process at one moment."""

    at: float
    pid: int
    resident: float  # MB
    threads: int
    descriptors: int


def sample(pid: int, at: float) -> Sample | None:
    """What the process is like now; None if it is gone."""
    process = Path(f"/proc/{pid}")
    try:
        pages = int((process / "statm").read_text().split()[1])
        threads = len(os.listdir(process / "task"))
        descriptors = len(os.listdir(process / "fd"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Sample(at, pid, pages * os.sysconf("SC_PAGE_SIZE") / _MB, threads, descriptors)


@dataclass
class Watch:
    """The samples of one role, whichever processes had it."""

    role: str
    samples: list[Sample] = field(default_factory=list)

    def look(self, pid: int, at: float) -> None:
        """Take a sample."""
        if (seen := sample(pid, at)) is not None:
            self.samples.append(seen)

    def of_last_process(self, since: float) -> list[Sample]:
        """What was seen of the process that has the role at the end, from a time on."""
        return [each for each in self.samples if each.pid == self.samples[-1].pid and each.at >= since]

    def grown(self, since: float) -> tuple[float, float]:
        """How the memory of the last process changed from a time on: MB per hour, and its end to its beginning.

        Both ends are medians of a tenth of the samples, and the slope is the one of least squares, so that no single
        moment decides.
        """
        seen = self.of_last_process(since)
        hours, sizes = [each.at / 3600 for each in seen], [each.resident for each in seen]
        middle, mean = sum(hours) / len(hours), sum(sizes) / len(sizes)
        spread = sum((hour - middle) ** 2 for hour in hours)
        rise = sum((hour - middle) * (size - mean) for hour, size in zip(hours, sizes, strict=True))
        tenth = max(1, len(sizes) // 10)
        return rise / spread if spread else 0.0, _median(sizes[-tenth:]) / _median(sizes[:tenth])


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]

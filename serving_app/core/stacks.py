"""What processes did with their CPU time, as stacks of functions, and the forms in which people look at it.

A *stack* is a line from the outermost function to the innermost, joined by semicolons, and its weight is microseconds
of CPU time. That is the form that flame graph tools call collapsed, and so plain data that may travel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Stacks = Mapping[str, int]
"""Microseconds by stack."""

MOST_S = 300.0
"""How long a profile may take."""

_SPEEDSCOPE = "https://www.speedscope.app/file-format-schema.json"


class ProcessProfile(NamedTuple):
    """What one process did meanwhile. `name` says what it is for, the same for all that do the same."""

    name: str
    host: str
    pid: int
    seconds: float
    stacks: Stacks

    @property
    def cpu_s(self) -> float:
        """The CPU time that is told of."""
        return sum(self.stacks.values()) / 1e6


class AppProfile(NamedTuple):
    """What the processes of a serving app did, and the names of those that gave no answer."""

    processes: tuple[ProcessProfile, ...]
    silent: tuple[str, ...]


class FunctionTime(NamedTuple):
    """CPU time of one function, as parts of all: its own, and with what it calls."""

    function: str
    own: float
    total: float


def stack_line(frames: Iterable[str]) -> str:
    """One stack, of frames from the outermost on. What means something in the form is replaced in their names."""
    return ";".join(frame.replace(";", ":").replace("\n", " ") for frame in frames)


def busiest(profiles: Iterable[ProcessProfile], most: int) -> list[FunctionTime]:
    """The functions with the most CPU time of their own, over all processes."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for profile in profiles:
        for stack, micros in profile.stacks.items():
            frames = stack.split(";")
            own[frames[-1]] += micros
            for frame in set(frames):  # a function that calls itself has its time once
                total[frame] += micros
    whole = own.total() or 1
    return [FunctionTime(name, micros / whole, total[name] / whole) for name, micros in own.most_common(most)]


def collapsed(profiles: Iterable[ProcessProfile]) -> str:
    """A line for each stack, processes that do the same added up, as flame graph tools read it."""
    lines: Counter[str] = Counter()
    for profile in profiles:
        for stack, micros in profile.stacks.items():
            lines[f"{stack_line([profile.name])};{stack}"] += micros
    return "".join(f"{line} {micros}\n" for line, micros in sorted(lines.items()))


def speedscope(profiles: Iterable[ProcessProfile], name: str) -> dict[str, Any]:
    """A document with each process by itself, as speedscope reads it."""
    numbers: dict[str, int] = {}
    parts = []
    for profile in profiles:
        samples = [
            [numbers.setdefault(frame, len(numbers)) for frame in stack.split(";")] for stack in profile.stacks
        ]
        parts.append({
            "type": "sampled",
            "name": f"{profile.name} (process {profile.pid} on {profile.host})",
            "unit": "microseconds",
            "startValue": 0,
            "endValue": sum(profile.stacks.values()),
            "samples": samples,
            "weights": list(profile.stacks.values()),
        })
    return {
        "$schema": _SPEEDSCOPE,
        "name": name,
        "shared": {"frames": [{"name": frame} for frame in numbers]},
        "profiles": parts,
    }

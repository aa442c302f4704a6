"""A CPU profile of this process, taken from within: a thread that looks at the others again and again.

While nobody asks there is no such thread, and nothing is paid. While somebody does it costs a percent or two.

How much CPU time each thread has used is known exactly, by its own clock. What for is known by samples: at a moment,
the stack of each thread that is running just then. Two things would make them lie:

- A thread that only looks gets the interpreter when the others give it away, which is when they wait for something. So
  the sampler asks for it at a moment of chance, with Python's switch interval so short that the others give it away
  where they are.
- A thread that waits has a stack as well. One counts as running if its clock has gone on just now.

What runs outside of Python, such as Ray's threads, has no stack here, and is told by the names of its threads. What
threads used that have ended since is told as one sum. Linux only: clocks of other threads cannot be read elsewhere.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from serving_app.core.stacks import ProcessProfile, stack_line

_EVERY_S = 0.010
_WINDOW_S = (0.0001, 0.0004)
"""How long before a sample the clocks are read, by chance: less than what a request takes."""

_AT_ONCE_S = 0.00001
"""The switch interval while the sampler is about to look."""

_SET_TIMER_SLACK = 29
_TIMER_SLACK_NS = 1000
"""How late Linux may wake the sampler. By default that is longer than many a stretch without a wait."""

_RUNNING = 0.5
"""The part of the window in which a thread must have had a processor."""

_DEEPEST = 128
"""Frames of a stack that are told; of deeper ones, the innermost."""

_WAITS = frozenset({
    ("selectors", "select"), ("threading", "wait"), ("threading", "_wait_for_tstate_lock"), ("threading", "join"),
    ("concurrent.futures.thread", "_worker"), ("queue", "get"), ("subprocess", "wait"),
})  # fmt: skip
"""Innermost functions that are about to wait, or have just been woken."""

_looking = threading.Lock()
"""Held while the switch interval is a short one, which is the whole process'."""

NOT_PYTHON = "(not Python)"
NOT_SAMPLED = "(not sampled)"
ENDED = "(threads that ended)"
SAMPLER = "(this profile)"
_TASKS = Path("/proc/self/task")
_NUMBERS = re.compile(r"[-_:]?\d+")


def take_profile(name: str, seconds: float, ended: threading.Event | None = None) -> ProcessProfile:
    """What this process does with its CPU time for so long, or until it has `ended`.

    Blocks, in a thread that was made for this and ends afterwards.
    """
    ended = ended or threading.Event()
    ctypes.CDLL(None).prctl(_SET_TIMER_SLACK, _TIMER_SLACK_NS, 0, 0, 0)  # of this thread; where it fails, so be it
    before = _clocks()
    began = time.perf_counter()
    samples: dict[int, Counter[str]] = defaultdict(Counter)
    while time.perf_counter() - began < seconds and not ended.wait(_EVERY_S):
        for thread, stack in _sample():
            samples[thread][stack] += 1
    after = _clocks()
    lasted = time.perf_counter() - began
    return ProcessProfile(name, socket.gethostname(), os.getpid(), lasted, _weigh(before, after, samples))


def _sample() -> Iterator[tuple[int, str]]:
    """The stacks of the threads that are running."""
    own = threading.get_ident()
    threads = [thread for thread in threading.enumerate() if thread.ident != own and thread.native_id is not None]
    clocks = [_clock(thread.native_id) for thread in threads]
    looked = time.perf_counter()
    with _looking:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(_AT_ONCE_S)
        time.sleep(random.uniform(*_WINDOW_S))
        sys.setswitchinterval(interval)
    frames = sys._current_frames()
    enough = _RUNNING * (time.perf_counter() - looked)
    for thread, clock in zip(threads, clocks, strict=True):
        frame = frames.get(thread.ident or 0)
        if frame is None or _clock(thread.native_id) - clock < enough or _is_wait(frame):
            continue
        assert thread.native_id is not None
        yield thread.native_id, stack_line([_kind(thread.name), *_functions(frame)])


def _is_wait(frame: FrameType) -> bool:
    return (frame.f_globals.get("__name__"), frame.f_code.co_name) in _WAITS


def _functions(frame: FrameType | None) -> list[str]:
    """From the outermost to the innermost."""
    names: list[str] = []
    while frame is not None and len(names) < _DEEPEST:
        names.append(f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return names[::-1]


class _Clocks(NamedTuple):
    """The CPU time of this process, and of each of its threads that lives, Python's or not."""

    process: float
    threads: dict[int, float]


def _weigh(before: _Clocks, after: _Clocks, samples: dict[int, Counter[str]]) -> dict[str, int]:
    """All CPU time between the two, by stack: that of each thread, shared out by its samples."""
    python = {thread.native_id: _kind(thread.name) for thread in threading.enumerate()}
    stacks: Counter[str] = Counter()
    for thread, clock in after.threads.items():
        began = before.threads.get(thread, 0.0)
        # A clock that has gone back is that of another thread, which has the number of one that has ended.
        micros = int((clock - began if clock >= began else clock) * 1e6)
        seen = samples.get(thread)
        if thread == threading.get_native_id():
            stacks[SAMPLER] += micros
        elif seen:
            for stack, times in seen.items():
                stacks[stack] += micros * times // seen.total()
        elif thread in python:
            stacks[stack_line([python[thread], NOT_SAMPLED])] += micros
        else:
            stacks[stack_line([_kind(_name(thread)), NOT_PYTHON])] += micros
    whole = int((after.process - before.process) * 1e6)  # of what is left, some microseconds are of rounding
    stacks[ENDED] += max(0, whole - stacks.total())
    return {stack: micros for stack, micros in stacks.items() if micros}


def _clocks() -> _Clocks:
    """All at one moment: nothing in between gives the interpreter away, which a busy thread would keep for long."""
    numbers = [int(number) for number in os.listdir(_TASKS)]
    process = time.process_time()
    return _Clocks(process, {number: clock for number in numbers if (clock := _clock(number))})


def _name(thread: int) -> str:
    try:
        return (_TASKS / str(thread) / "comm").read_text().strip()
    except OSError:  # it has just ended
        return ENDED


def _clock(thread: int | None) -> float:
    """The CPU time of a thread, by the number that Linux has for its clock; 0 for one that has ended.

    `time.pthread_getcpuclockid` tells the same number, but must not be asked about a thread that may end meanwhile.
    """
    try:
        return time.clock_gettime((~(thread or 0) << 3) | 6)
    except OSError:
        return 0.0


def _kind(name: str) -> str:
    """The name of a thread without numbers, so that those of a pool are one."""
    return _NUMBERS.sub("", name) or name

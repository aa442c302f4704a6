"""Whether runs are so quick that the event loop may run them itself, found out by running.

Handing a run to a thread and being woken at its end costs about a tenth of a millisecond, twice what a small model
takes. So runs that are known to be quick happen where they are ordered. Known is what was seen:

- the first ones happen on threads, and so do those with many more rows than were seen to be quick;
- one that takes long on the loop after all sends its kind back to the threads, at first for a few runs, then for ever
  more: a kind of which one run in ten is slow stalls the loop some dozen times, and not for every tenth request.

On a thread a run may also take long because it waits for the interpreter, which says nothing about the run: where the
clock says long and the processor's time says short, nothing was learnt.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")

QUICK_S = 0.0003
"""What takes less is quick."""

_SEEN_S = 0.0005
"""A run on a thread that takes less than this by the clock is seen to be quick."""

_STALL_S = 0.001
"""A run on the loop that takes longer than this by the clock, and has waited for something, is a stall."""

_MOST_STALLS = 3

_FIRST_TRUST, _MOST_TRUST = 3, 1 << 16
"""So many runs in a row have to be quick before the loop runs one: at first, and at most."""

_GROWTH = 4


class Pace:
    """How quick the runs of one kind are."""

    def __init__(self) -> None:
        self._needed = _FIRST_TRUST
        self._seen = 0
        self._rows = 0
        self._stalls = 0

    def is_quick(self, rows: int) -> bool:
        """Whether a run with so many rows may happen on the event loop."""
        return self._seen >= self._needed and rows <= 2 * self._rows

    def run_here(self, rows: int, run: Callable[[], _Result]) -> _Result:
        """Run on the event loop, and see whether that was right."""
        waits, started, used = _waits(), time.perf_counter(), time.thread_time()
        result = run()
        taken, used = time.perf_counter() - started, time.thread_time() - used
        # A busy machine makes any run take long now and then, but only the run itself can wait for something.
        if taken > _STALL_S and (_waits() > waits or not _COUNTS_WAITS):
            self._stalls += 1
        if used > 2 * QUICK_S or self._stalls >= _MOST_STALLS:
            self._needed = min(self._needed * _GROWTH, _MOST_TRUST)
            self._seen, self._rows, self._stalls = 0, 0, 0
        elif used < QUICK_S:
            self._rows = max(self._rows, rows)
        return result

    def run_on_thread(self, rows: int, run: Callable[[], _Result]) -> _Result:
        """Run on the calling thread, which is not the event loop's."""
        started, used = time.perf_counter(), time.thread_time()
        result = run()
        taken, used = time.perf_counter() - started, time.thread_time() - used
        if taken < _SEEN_S:
            self._rows = max(self._rows, rows)
            self._seen += 1
        elif used > QUICK_S and rows <= self._rows:
            self._seen = 0
        return result


def _waits() -> int:
    """How often this thread has given the processor away because it had to wait."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw if _COUNTS_WAITS else 0


_COUNTS_WAITS = hasattr(resource, "RUSAGE_THREAD")  # on Linux

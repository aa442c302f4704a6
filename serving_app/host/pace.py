"""Whether runs are so quick that the event loop may run them itself, found out by running.

Handing a run to a thread and being woken at its end costs about a tenth of a millisecond, twice what a small model
takes. So runs that are known to be quick happen where they are ordered. Known is what was seen:

- the first ones happen on threads, and so do those that are much larger than what was seen to be quick;
- those that take long on the loop after all make a debt, which the time that quick ones save pays back. A kind whose
  debt becomes too large goes back to the threads, each time for longer.

On a thread a run may also take long because it waits for the interpreter, which says nothing about the run: where the
clock says long and the processor's time says short, nothing was learnt. On the loop any run takes long now and then
because other processes have the processor; that counts only if the run itself has waited for something.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

_Result = TypeVar("_Result")

QUICK_S = 0.0003
"""What takes less is quick."""

_SEEN_S = 0.0005
"""A run on a thread that takes less than this by the clock is seen to be quick."""

_SLOW_S = 2 * QUICK_S
"""What takes longer than this on the loop makes a debt of the rest."""

_SAVED_S = 0.00005
"""What a quick run on the loop pays back."""

_MOST_DEBT_S = 0.005

_FIRST_TRUST, _MOST_TRUST = 3, 1 << 16
"""So many quick runs have to be seen before the loop runs one: at first, and at most."""

_GROWTH = 4


class Pace:
    """How quick the runs of one kind are, and up to which size. Runs that may be endless never happen on the loop,
    whatever was seen."""

    def __init__(self, may_be_endless: bool = False) -> None:
        self._may_be_endless = may_be_endless
        self._needed = _FIRST_TRUST
        self._seen = 0
        self._size = 0
        self._debt_s = 0.0

    def is_quick(self, size: int) -> bool:
        """Whether a run of this size may happen on the event loop."""
        return self._seen >= self._needed and size <= 2 * self._size and not self._may_be_endless

    def run_here(self, size: int, run: Callable[[], _Result]) -> _Result:
        """Run on the event loop, and see whether that was right."""
        waits, started, used_before = _waits(), time.perf_counter(), time.thread_time()
        result = run()
        used = time.thread_time() - used_before
        lost = time.perf_counter() - started
        if lost > _SLOW_S and used < lost and _waits() == waits:
            lost = used
        if lost > _SLOW_S:
            self._debt_s += lost - _SLOW_S
            if self._debt_s > _MOST_DEBT_S:
                self._needed = min(self._needed * _GROWTH, _MOST_TRUST)
                self._seen, self._size, self._debt_s = 0, 0, 0.0
        else:
            self._debt_s = max(0.0, self._debt_s - _SAVED_S)
            self._needed = max(self._needed - 1, _FIRST_TRUST)
            if lost < QUICK_S:
                self._size = max(self._size, size)
        return result

    def run_on_thread(self, size: int, run: Callable[[], _Result]) -> _Result:
        """Run on the calling thread, which is not the event loop's."""
        started, used = time.perf_counter(), time.thread_time()
        result = run()
        taken, used = time.perf_counter() - started, time.thread_time() - used
        if taken < _SEEN_S:
            self._size = max(self._size, size)
            self._seen += 1
        elif used > QUICK_S and size <= self._size:
            self._seen = 0
        return result


class Paces(dict[Hashable, Pace]):
    """A pace for each kind of run, made when it is asked for. Clients choose outputs and shapes, and so how many kinds
    there are: of too many the oldest go."""

    def __init__(self, may_be_endless: bool = False) -> None:
        super().__init__()
        self._may_be_endless = may_be_endless

    def __missing__(self, kind: Hashable) -> Pace:
        if len(self) >= _MOST_KINDS:
            del self[next(iter(self))]
        pace = self[kind] = Pace(self._may_be_endless)
        return pace


_MOST_KINDS = 1000


def _waits() -> int:
    """How often this thread has given the processor away because it had to wait; a new number each time where the
    system does not tell."""
    if _THREAD is None:
        return time.perf_counter_ns()
    return resource.getrusage(_THREAD).ru_nvcsw


_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)  # Linux has it

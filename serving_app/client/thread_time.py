"""How much of the time a thread has something to do, and how much of that it gets no processor for."""

from __future__ import annotations

import time
from typing import NamedTuple

_SCHEDSTAT = "/proc/thread-self/schedstat"


class ThreadTime(NamedTuple):
    """For how long a thread has worked, and for how long it has waited for a processor to work on, in seconds."""

    worked: float
    waited: float


def read_thread_time() -> ThreadTime:
    """That of the calling thread. Not all systems tell of waits (Linux does, mostly): elsewhere there are none."""
    try:
        with open(_SCHEDSTAT, "rb") as file:
            worked_ns, waited_ns, _ = file.read().split()
        return ThreadTime(int(worked_ns) / 1e9, int(waited_ns) / 1e9)
    except (OSError, ValueError):
        return ThreadTime(time.thread_time(), 0.0)

"""How much of the time a thread has something to do, whether it gets a processor for that or not."""

from __future__ import annotations

import time

_SCHEDSTAT = "/proc/thread-self/schedstat"


def wanted_s() -> float:
    """For how many seconds the calling thread has worked, or has waited for a processor to work on.

    Where the system does not tell of the waits (Linux does, mostly), for how long it has worked.
    """
    try:
        with open(_SCHEDSTAT, "rb") as file:
            worked_ns, waited_ns, _ = file.read().split()
        return (int(worked_ns) + int(waited_ns)) / 1e9
    except (OSError, ValueError):
        return time.thread_time()

"""The time, for those who measure by it how long things take: it does not jump when somebody sets the clock."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady_clock(
    not_before: float = 0.0,
    *,
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Callable[[], float]:
    """Seconds since 1970, as the clock on the wall says now, and from now on as they go by.

    `not_before` is the last moment that was noted by an earlier clock. If that was fast, this one goes on from there,
    or what is noted from now on would have happened before it.
    """
    start, begun = max(wall(), not_before), monotonic()
    return lambda: start + monotonic() - begun

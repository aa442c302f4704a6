"""Python's collector of cycles, which rests while a parser works.

A parser of a large text makes millions of containers, none of which is in a cycle. The collector would look at all of
them again and again, which can take four times as long as the parsing, and nobody else has a turn meanwhile.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_resting: list[bool] = []
"""For each pause under way: whether the collector was on when it began."""


@contextmanager
def paused() -> Iterator[None]:
    """Keeps the collector from starting by itself; several threads may want that at a time."""
    with _lock:
        _resting.append(gc.isenabled() if not _resting else _resting[0])
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            if _resting.pop() and not _resting:
                gc.enable()

"""Ends the waits of requests whose time is over, all of them by one timer.

A timer for each request costs several microseconds, and hardly any of them ever goes off. So all waits that have a
limit stand in one list that is looked through many times a second, while there are any; a wait may last that much
longer than its limit. Used on one event loop.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from serving_app.core.errors import DeadlineExceeded
from serving_app.core.servable import ServableId

T = TypeVar("T")

_LOOK_S = 0.01
"""Between two looks at least."""
_SHARE = 0.02
"""The most of the loop's time that the looks may take, however many wait."""
_LOOK_AT_ONE_S = 50e-9


class Deadlines:
    """Waits with limits."""

    def __init__(self) -> None:
        self._waits: dict[asyncio.Future[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, future: asyncio.Future[T], timeout_s: float, servable: ServableId) -> T:
        """The result of a future that nobody else waits for. When its time is over it is cancelled, and this raises
        DeadlineExceeded."""
        loop = future.get_loop()
        waits = self._waits
        waits[future] = loop.time() + timeout_s
        if self._timer is None:
            self._timer = loop.call_later(min(_LOOK_S, timeout_s), self._look)
        try:
            return await future
        except asyncio.CancelledError:
            if future in waits:  # it was cancelled by others, or the one who waits was
                raise
            raise DeadlineExceeded(f"{servable} gave no answer within {timeout_s:.3f} s") from None
        finally:
            waits.pop(future, None)

    def _look(self) -> None:
        waits = self._waits
        loop = asyncio.get_running_loop()
        now = loop.time()
        for future in [future for future, deadline in waits.items() if deadline <= now]:
            del waits[future]
            future.cancel()
        pause_s = max(_LOOK_S, len(waits) * _LOOK_AT_ONE_S / _SHARE)
        self._timer = loop.call_later(pause_s, self._look) if waits else None

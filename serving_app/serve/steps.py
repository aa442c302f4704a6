"""Drives a coroutine without a task, for answers of which there are tens of thousands a second.

A task costs some five microseconds: it is entered in a set of all tasks, begins only with the next turn of the loop,
and is struck off at its end. A coroutine that is driven here begins at once and, if all it needs is there, ends at
once. The price: what asks for the current task, as `asyncio.timeout` does, cannot be awaited in it (but in a task that
it awaits).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger("ray.serve")


class Steps:
    """A coroutine, from its beginning to its end. Used on one event loop. What it raises is logged."""

    __slots__ = ("_coroutine", "_is_cancelled", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._waits_for: asyncio.Future[Any] | None = None
        self._is_cancelled = False

    def go(self, ready: object = None) -> None:
        """Begin, or go on with what was waited for."""
        self._waits_for = None
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                if isinstance(ready, asyncio.Future) and not ready.cancelled():
                    ready.exception()  # of no interest any more, and no reason for a warning
                future = self._coroutine.throw(asyncio.CancelledError)
            else:
                future = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            return
        except Exception:
            logger.exception("an answer was not brought to its end")
            return
        if future is None:  # a bare yield, as of `asyncio.sleep(0)`
            asyncio.get_running_loop().call_soon(self.go)
        else:
            # The mark of an awaited future, which whoever drives a coroutine has to take away.
            future._asyncio_future_blocking = False
            self._waits_for = future
            future.add_done_callback(self.go)

    def cancel(self) -> None:
        """Cancel what is waited for, and with that the coroutine; one that is about to go on does so cancelled."""
        if self._waits_for is None or not self._waits_for.cancel():
            self._is_cancelled = True

"""A number that grows with every change, for those who wait for one."""

from __future__ import annotations

import asyncio
import contextlib
import time


class Changes:
    """The changes of one app. Lives on one event loop."""

    def __init__(self) -> None:
        # Whoever compares numbers does so across restarts of the controller: a new one starts above all earlier ones.
        self.number = time.time_ns() // 1_000_000
        self._next = asyncio.Event()

    def note(self) -> None:
        """Something has changed: wake everyone who waits for that."""
        self.number += 1
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Returns at the next change."""
        await self._next.wait()

    async def wait_for_news(self, seen: int, timeout_s: float) -> int:
        """The number, as soon as it differs from `seen`, else after this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.number == seen:
                    await self.wait()
        return self.number

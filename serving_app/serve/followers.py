"""Who follows the route table, and what each has acknowledged.

A follower (a gateway, a handle client) long-polls for tables newer than its own. Its lease lasts as long as it keeps
polling; when it stops without a good-bye, the lease lapses and nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from serving_app.core.events import Event, ReaderJoined, ReaderLeft, RoutesAcknowledged
from serving_app.core.routing import RouteTable

LEASE_S = 10.0
"""How long after its last sign of life a follower counts as there."""

POLL_S = 5.0
"""How long a poll waits for news before it is answered with none; well below the lease."""


@dataclass
class _Follower:
    last_seen: float
    holds: int | None = None  # the revision of its table; None before it asks for one
    acknowledged: int = 0
    polls: int = 0


class Followers:
    """The published table and those who follow it. Lives on one event loop; events go to `emit`."""

    def __init__(
        self, emit: Callable[[Event], None], *, clock: Callable[[], float] = time.monotonic, poll_s: float = POLL_S
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._poll_s = poll_s
        self._followers: dict[str, _Follower] = {}
        self._news = asyncio.Event()
        self._progress = asyncio.Event()
        self.table: RouteTable | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._followers

    def __len__(self) -> int:
        return len(self._followers)

    def publish(self, table: RouteTable) -> None:
        """Make this the newest table and wake everyone who waits for one."""
        self.table = table
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def poll(self, name: str, have: int, acknowledged: int) -> RouteTable | None:
        """The newest table if it is newer than `have`, else None after a while, or when the follower leaves."""
        self.acknowledge(name, acknowledged)
        follower = self._followers[name]
        follower.polls += 1
        follower.holds = have
        self._progress.set()
        try:
            async with asyncio.timeout(self._poll_s):
                while self.table is None or self.table.revision <= have:
                    if self._followers.get(name) is not follower:
                        return None
                    await self._news.wait()
            return self.table
        except TimeoutError:
            return None
        finally:
            follower.polls -= 1
            follower.last_seen = self._clock()

    async def wait_until_held(self, revision: int, timeout_s: float) -> bool:
        """Whether, within this time, everyone who asks for tables has one as new as this revision."""
        try:
            async with asyncio.timeout(timeout_s):
                while any(each.holds is not None and each.holds < revision for each in self._followers.values()):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    async def wait_until_acknowledged(self, revision: int) -> None:
        """Returns when nobody follows a table that is older than this revision any more."""
        while any(each.acknowledged < revision for each in self._followers.values()):
            self._progress.clear()
            await self._progress.wait()

    def acknowledge(self, name: str, revision: int) -> None:
        """The follower is alive and follows no table older than `revision`."""
        follower = self._followers.get(name)
        if follower is None:
            follower = self._followers[name] = _Follower(self._clock())
            self._emit(ReaderJoined(name))
        follower.last_seen = self._clock()
        if revision > follower.acknowledged:
            follower.acknowledged = revision
            self._progress.set()
            self._emit(RoutesAcknowledged(name, revision))

    def leave(self, name: str) -> None:
        """The follower says good-bye."""
        if self._followers.pop(name, None) is not None:
            self._emit(ReaderLeft(name))
            self._progress.set()
            # A poll that nobody waits for would be told of as a failure to whoever left, if the controller ends.
            self._wake()

    def expire(self) -> None:
        """Drop those whose lease has lapsed."""
        horizon = self._clock() - LEASE_S
        for name, follower in list(self._followers.items()):
            if not follower.polls and follower.last_seen < horizon:
                self.leave(name)

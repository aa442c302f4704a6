"""Holds the newest route table, and tells the controller which older ones are out of use.

A request takes a lease on the table it was routed by. The follower acknowledges a revision only when no request that
was routed by an older table is left, so the controller can remove a version knowing that nobody is on the way to it.
The controller may be away for a while: the last table stays in force.

Everything here runs on one event loop, but for the leases of threads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from serving_app.core.routing import RouteTable

logger = logging.getLogger(__name__)

_RECONNECT_S = 0.2
_SIGN_OF_LIFE_S = 3.0
"""Well below the time after which the controller takes a silent follower for gone."""

Prepare = Callable[[RouteTable], Awaitable[None]]
"""Awaited with each new table, before any request is routed by it."""


class RouteFollower:
    """Follows the tables of one controller under a name of its own."""

    def __init__(self, name: str, connect: Callable[[], Awaitable[Any]], prepare: Prepare) -> None:
        """`connect` finds the controller (an actor handle) and is called again whenever that was lost."""
        self.name = name
        self._connect = connect
        self._prepare = prepare
        self._controller: Any = None
        self._in_use: dict[int, int] = {}
        self._in_threads: dict[int, int] = {}  # the revision of each lease that a thread has, by the lease's identity
        self._counting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = 0
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._news: asyncio.Event | None = None
        self.table = RouteTable()
        self.addresses: Mapping[str, str] = {}
        """Where the follower itself listens, by protocol, if it does: a controller that starts again knows nothing."""

    async def start(self) -> None:
        """Returns with the first table in hand. Raises what `connect` raises if there is no controller at all."""
        self._loop = asyncio.get_running_loop()
        self._controller = await self._connect()
        while self.table.revision == 0:
            await self._poll()
        self._task = self._loop.create_task(self._follow())

    async def stop(self, *, says_so: bool = True) -> None:
        """Follow no more, and say so, unless there is nobody to tell."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
        if not says_so:
            return
        try:
            await self._controller.leave.remote(self.name)
        except Exception as error:  # the controller is away; the lease lapses by itself
            logger.debug("no good-bye to the controller: %r", error)

    async def hold(self, revision: int) -> None:
        """Returns when the table is at least as new as this revision."""
        while self.table.revision < revision:
            self._news = self._news or asyncio.Event()
            await self._news.wait()

    @property
    def controller(self) -> Any:
        """The one that was followed last; None before the start."""
        return self._controller

    def lease(self) -> Lease:
        """The table to route one request by, for as long as that request takes: to be used once, as a context."""
        return Lease(self)

    def lease_for_thread(self) -> ThreadLease:
        """The same for any thread, also one that may be interrupted."""
        return ThreadLease(self)

    def borrow(self) -> RouteTable:
        """The table to route one request by. It counts as in use until it is given back."""
        table = self.table
        self._in_use[table.revision] = self._in_use.get(table.revision, 0) + 1
        return table

    def give_back(self, table: RouteTable) -> None:
        """The request that borrowed this table is over."""
        revision = table.revision
        left = self._in_use[revision] - 1
        if left:
            self._in_use[revision] = left
        else:
            del self._in_use[revision]
            if revision < self.table.revision:
                self._tell()

    def borrow_for_thread(self, lease: ThreadLease) -> RouteTable:
        """What `lease` is for. It counts as in use until that gives it back."""
        with self._counting:  # between the two lines nobody may find this table out of use
            table = self.table
            self._in_threads[id(lease)] = table.revision
        return table

    def give_back_from_thread(self, lease: ThreadLease) -> None:
        """The request of this lease is over, if it had begun. To say so again does nothing."""
        revision = self._in_threads.pop(id(lease), None)
        if revision is not None and revision < self.table.revision and self._loop is not None:
            self._loop.call_soon_threadsafe(self._tell)

    @property
    def _acknowledged(self) -> int:
        with self._counting:
            return min([*self._in_use, *list(self._in_threads.values())], default=self.table.revision)

    def _tell(self) -> None:
        """Say at once that an older table went out of use; the poll that is under way cannot."""
        # After the good-bye it would look like someone new, for whom the controller would wait.
        if self._acknowledged > self._told and not self._stopped:
            self._told = self._acknowledged
            self._controller.acknowledge.remote(self.name, self._told)

    async def _follow(self) -> None:
        is_lost = False
        while True:
            try:
                if is_lost:  # the one that was lost is not asked again: without its cluster Ray would start another
                    self._controller = await self._connect()
                await self._poll()
                is_lost = False
            except Exception as error:
                # Once, and not five times a second.
                level = logging.DEBUG if is_lost else logging.WARNING
                is_lost = True
                logger.log(level, "no news of routes (%r); going on by revision %d", error, self.table.revision)
                await asyncio.sleep(_RECONNECT_S)

    async def _poll(self) -> None:
        self._told = self._acknowledged
        table = await self._controller.poll_routes.remote(
            self.name, self.table.revision, self._told, self.addresses
        )
        if table is not None and table.revision > self.table.revision:
            await self._get_ready(table)
            self.table = table
            if self._news is not None:
                self._news.set()
                self._news = None

    async def _get_ready(self, table: RouteTable) -> None:
        """Prepare for a table; while that takes long, the controller hears that somebody still follows the last one."""
        preparing = asyncio.ensure_future(self._prepare(table))
        try:
            while not (await asyncio.wait([preparing], timeout=_SIGN_OF_LIFE_S))[0]:
                self._controller.acknowledge.remote(self.name, self._acknowledged)
            preparing.result()
        finally:
            preparing.cancel()


class Lease:
    """A table that is borrowed for the length of a block. A generator would cost each request two microseconds."""

    __slots__ = ("_follower", "_table")

    def __init__(self, follower: RouteFollower) -> None:
        self._follower = follower

    def __enter__(self) -> RouteTable:
        self._table = self._follower.borrow()
        return self._table

    def __exit__(self, *_error: object) -> None:
        self._follower.give_back(self._table)


class ThreadLease:
    """A table that a thread borrows for the length of a block. Ctrl-C may come between any two steps of the block's
    beginning and end; then the table is given back when the lease is forgotten."""

    __slots__ = ("_follower",)

    def __init__(self, follower: RouteFollower) -> None:
        self._follower = follower

    def __enter__(self) -> RouteTable:
        return self._follower.borrow_for_thread(self)

    def __exit__(self, *_error: object) -> None:
        self._follower.give_back_from_thread(self)

    def __del__(self) -> None:
        self._follower.give_back_from_thread(self)

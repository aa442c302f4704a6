"""How a gateway or a replica has what it counted collected.

It always has one call open at the controller, which is answered when somebody wants the metrics, and otherwise after a
second or more; the next call brings what changed meanwhile. So an answer to a scrape takes one way there and back, and
what a process had not reported when it was killed is about a second's worth.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from serving_app.core.batching import Batching, BatchingChoice
from serving_app.core.door import Door
from serving_app.core.metrics import Registry, Snapshot, replace_in
from serving_app.core.servable import ServableId
from serving_app.serve.profiling import Profiled, Profiler, ProfileWish
from serving_app.serve.ray_metrics import RayExport

logger = logging.getLogger("ray.serve")

_RETRY_S = 0.2
_START_S = 5.0
_FAREWELL_S = 3.0
"""How long a process that ends waits for its last report to be taken."""


class Report(NamedTuple):
    """What a process has counted: all of it, or what changed since the report before.

    `answers` names the scrape that asked for it, if one did. `door` is where a replica listens for lanes.
    `batched` has the versions held by the process that are batched, and by which limits. `profile` is there when one
    is wished and was taken.
    """

    number: int
    counts: Snapshot
    gauges: Snapshot
    is_all: bool
    answers: str | None = None
    door: Door | None = None
    batched: Mapping[ServableId, Batching] | None = None
    profile: Profiled | None = None


class Wish(NamedTuple):
    """What the controller wants to have in the next report: everything, and for which scrape if there is one.

    `batching` is how what the process holds is to be batched from now on; None where that is not known now. With
    `profile` the process is to watch itself for a while.
    """

    everything: bool = False
    scrape: str | None = None
    batching: BatchingChoice | None = None
    profile: ProfileWish | None = None


class Reporter:
    """Reports what one registry counts under a name that no other process has. Lives on one event loop."""

    def __init__(
        self, name: str, registry: Registry, connect: Callable[[], Awaitable[Any]], export: RayExport | None = None,
        *, start_s: float = _START_S, follow: Callable[[Wish], Awaitable[None]] | None = None,
    ) -> None:
        """`connect` finds the controller (an actor handle) and is called again whenever that was lost. With `export`
        Ray is told as well. `follow` hears of each wish; what it raises ends the reporting."""
        self.name = name
        self.door: Door | None = None
        """Where a replica listens for lanes, once it does. It is told with every report: who is known to be there is
        known to be there with its door."""
        self._export = export
        self._registry = registry
        self._connect = connect
        self._controller: Any = None
        self._start_s = start_s
        self._follow = follow
        self.batched: Callable[[], Mapping[ServableId, Batching]] = dict
        """Asked for each report which versions are batched here, and by which limits."""
        self._profiler = Profiler(role(name))
        self._number = 0
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when the first report was taken: from then on no scrape misses what is counted here.

        A controller that takes none, as it is away or of an earlier release, is waited for in the background: what
        cannot be counted can be answered all the same.
        """
        loop = asyncio.get_running_loop()
        first = asyncio.Event()
        self._tasks.append(loop.create_task(self._report_for_ever(first)))
        if self._export is not None:
            self._tasks.append(loop.create_task(self._export.export_for_ever(self._registry)))
        try:
            async with asyncio.timeout(self._start_s):
                await first.wait()
        except TimeoutError:
            logger.warning("no report of metrics was taken yet; the metrics page lacks this process until then")

    async def stop(self) -> None:
        """Bring what was counted last. If the controller is away, that is lost after a moment."""
        self._stopped = True
        self._profiler.follow(None)
        for task in self._tasks:
            task.cancel()
        try:
            async with asyncio.timeout(_FAREWELL_S):
                self._controller = self._controller or await self._connect()
                await self._controller.bid_farewell.remote(self.name, self._make(Wish(everything=True)))
        except Exception as error:
            logger.warning("what was counted since the last report is lost: %r", error)

    async def _report_for_ever(self, first: asyncio.Event) -> None:
        wish = Wish(everything=True)
        while not self._stopped:
            wish = await self._report_until_taken(wish)
            first.set()
            self._profiler.follow(wish.profile)
            if self._follow is not None:
                await self._follow(wish)

    async def _report_until_taken(self, wish: Wish) -> Wish:
        is_lost = False
        while not self._stopped:
            try:
                self._controller = self._controller or await self._connect()
                taken: Wish = await self._controller.report_metrics.remote(self.name, self._make(wish))
                return taken
            except Exception as error:
                # Once, and not five times a second.
                logger.log(logging.DEBUG if is_lost else logging.WARNING, "no report of metrics: %r", error)
                is_lost = True
                self._controller = None
                # What was in the report that was lost is in the next one.
                wish = Wish(everything=True)
                await asyncio.sleep(_RETRY_S)
        return wish

    def _make(self, wish: Wish) -> Report:
        self._number += 1
        # In this order: what changes between the two is told again, and not forgotten.
        counts = self._registry.take_changed()
        if wish.everything:
            replace_in(counts, self._registry.counts())
        return Report(
            self._number, counts, self._registry.gauges(), wish.everything, wish.scrape, self.door, self.batched(),
            self._profiler.taken,
        )


def role(name: str) -> str:
    """What the process of this name is for: the application of a replica, or `gateway`."""
    app, is_replica, _ = name.rpartition("#")
    return app if is_replica else name.partition(":")[0]

"""The copies that a caller on the cluster makes of its requests, and how the app gets to know what came of them.

A caller does not report what it counts, as gateways do: there may be many, for moments. It brings what it has counted
of copies to the controller every second, as how much more it is; what gets lost on the way is not brought again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from serving_app.client.copy_limits import USUAL, Limits
from serving_app.client.mirroring import Begin, Mirroring
from serving_app.core.errors import as_serving_error
from serving_app.core.metrics import Registry, Snapshot, growth
from serving_app.core.routing import Route, RouteTable, find_candidate, is_routed
from serving_app.core.servable import ModelSpec
from serving_app.protocol.calls import Call, Outputs

logger = logging.getLogger(__name__)

_TELL_S = 1.0
_FAREWELL_S = 3.0


class Copying:
    """Copies the requests of one caller. Lives on one event loop."""

    def __init__(
        self, name: str, table: Callable[[], RouteTable], begin: Begin, connect: Callable[[], Awaitable[Any]],
        *, limits: Limits = USUAL, tell_s: float = _TELL_S,
    ) -> None:
        """`name` is one that no other process has, `table` gives the newest routes, `connect` finds the controller."""
        self._name = name
        self._connect = connect
        self._tell_s = tell_s
        self._registry = Registry()
        self._mirroring = Mirroring(self._registry, begin, lambda route: is_routed(route, table()), limits)
        self._told: Snapshot = {}
        self._number = 0
        self._telling: asyncio.Task[None] | None = None

    async def watch(
        self, spec: ModelSpec, table: RouteTable, route: Route, call: Call, answering: Awaitable[Outputs]
    ) -> Outputs:
        """What it comes to, which a copy of the call may be compared with, if it is to be copied."""
        candidate = find_candidate(spec, table, route)
        if candidate is None:
            return await answering
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_for_ever())
        began = time.perf_counter()
        try:
            outputs = await answering
        except Exception as error:
            self._mirroring.offer(route, candidate, call, as_serving_error(error), 0.0)
            raise
        self._mirroring.offer(route, candidate, call, outputs, time.perf_counter() - began)
        return outputs

    async def close(self) -> None:
        """Copy no more, and bring what was counted last. If the controller is away, that is lost after a moment."""
        self._mirroring.close()
        telling, self._telling = self._telling, None
        if telling is None:
            return
        telling.cancel()
        await asyncio.wait({telling})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await self._tell()

    async def _tell_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._tell_s)
            await self._tell()

    async def _tell(self) -> None:
        counts = self._registry.counts()
        grown = growth(self._told, counts)
        if not grown:
            return
        self._told = counts
        self._number += 1
        try:
            controller = await self._connect()
            await controller.count_copies.remote(self._name, self._number, grown)
        except Exception as error:  # the controller is away, or has other troubles: requests do not depend on it
            logger.debug("what was counted of copies was not told: %r", error)

"""How the app gets to know what a Python caller counts.

A caller does not report as gateways do, who are woken for each scrape: there may be many, for moments. Every second it
brings how much more it has counted. Each such parcel has a number, the controller takes them one after the other, and
the caller has them until it hears that they are kept where they outlive the controller. So whatever gets lost, comes
twice or starts again on the way, each request counts once; a caller that is killed takes along what it had not brought.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from serving_app.core.metrics import Registry, Snapshot, growth, replace_in

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_PATIENCE_S = 3.0
"""How long a caller that ends, or wants to see it counted, waits for what it brings to be taken."""

_MOST_PARCELS = 10
"""While so many are not kept, what is counted waits: one parcel can hold it all when the controller is back."""


class Parcel(NamedTuple):
    """How much more one caller has counted since the parcel before. The first one has the number 1."""

    number: int
    counts: Snapshot


class Receipt(NamedTuple):
    """What the controller answers: it knows the parcels up to `taken`, and those up to `kept` are safe. The caller is
    not to come again for so long."""

    taken: int
    kept: int
    pause_s: float


class Courier:
    """Brings what one registry counts to the controller. Lives on one event loop."""

    def __init__(
        self, name: str, registry: Registry, controller: Callable[[], Any], *, every_s: float = _EVERY_S
    ) -> None:
        """`name` is one that no other process has. `controller` gives the actor to bring it to."""
        self._name = name
        self._registry = registry
        self._controller = controller
        self._pause_s = every_s
        self._known: Snapshot = {}
        self._number = self._taken = self._kept = 0
        self._parcels: list[Parcel] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Come again and again from now on."""
        self._task = asyncio.get_running_loop().create_task(self._bring_for_ever())

    async def stop(self) -> None:
        """Bring what was counted last. If the controller is away, that is lost after a moment."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        await self.bring()

    async def bring(self) -> None:
        """Bring what was counted until now. If the controller is away, it has not got it after a moment."""
        self._pack()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                for _ in range(2):  # a controller that has just started again asks for more
                    if self._taken < self._number:
                        await self._bring_parcels()

    async def _bring_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            if len(self._parcels) < _MOST_PARCELS:
                self._pack()
            if self._parcels:
                await self._bring_parcels()

    def _pack(self) -> None:
        counts = self._registry.take_changed()
        grown = growth(self._known, counts)
        if grown:
            replace_in(self._known, counts)
            self._number += 1
            self._parcels.append(Parcel(self._number, grown))

    async def _bring_parcels(self) -> None:
        """Bring what is not known to be taken; or only ask what is kept by now."""
        parcels = [parcel for parcel in self._parcels if parcel.number > self._taken]
        try:
            receipt: Receipt = await self._controller().take_counts.remote(self._name, self._kept, parcels)
        except Exception as error:  # the controller is away, or has other troubles: requests do not depend on it
            logger.debug("what was counted was not taken: %r", error)
            return
        self._taken, self._kept, self._pause_s = receipt
        self._parcels = [parcel for parcel in self._parcels if parcel.number > self._kept]

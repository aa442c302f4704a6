"""Looks at Serve for the controller: what became of versions, what the nodes have, and whether the owner lives.

The owner is the Serve application that the controller belongs to. When it is deleted, or Serve is shut down, the
controller removes every version that it deployed, and then itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from serving_app.core import events
from serving_app.core.resources import NodeResources
from serving_app.serve import apps
from serving_app.serve.apps import AppState, Observation
from serving_app.serve.fleet import Fleet

_BUSY_S = 0.05
_LOADING_S = 0.5
_IDLE_S = 1.0
_NODES_EVERY_S = 5.0


class Lookout:
    """Looks for one app. Lives on one event loop; events go to `emit`."""

    def __init__(self, app: str, fleet: Fleet, emit: Callable[[events.Event], None]) -> None:
        self._app = app
        self._fleet = fleet
        self._emit = emit
        self._nodes: tuple[NodeResources, ...] = ()
        self._absences = 0

    async def look(self) -> Observation:
        """What exists now; waits while Serve cannot be asked."""
        while True:
            seen = await self._observe()
            if seen is not None:
                return seen
            await asyncio.sleep(_BUSY_S)

    async def look_at_nodes(self) -> None:
        """Tell what the nodes have, if that is news."""
        nodes = await asyncio.to_thread(apps.nodes)
        if nodes != self._nodes:
            self._nodes = nodes
            self._emit(events.NodesSeen(nodes))

    async def watch(self, each_time: Callable[[], None]) -> Observation:
        """Have the fleet look again and again, and call this each time; returns what is left when the owner is gone."""
        look_at_nodes = time.monotonic() + _NODES_EVERY_S
        while True:
            each_time()
            seen = await self._observe()
            if seen is not None:
                await self._fleet.look(seen)
                if self._has_lost_its_owner(seen):
                    return seen
            if time.monotonic() > look_at_nodes:
                await self.look_at_nodes()
                look_at_nodes = time.monotonic() + _NODES_EVERY_S
            self._fleet.stirred.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fleet.stirred.wait(), self._patience())

    async def watch_while(self, work: asyncio.Future[Any]) -> Observation | None:
        """Wait for this work as long as the owner is there; None, or what is left when it is gone."""
        while not (await asyncio.wait([work], timeout=_IDLE_S))[0]:
            seen = await self._observe()
            if seen is not None and self._has_lost_its_owner(seen):
                work.cancel()
                return seen
        return None

    async def remove_all(self, timeout_s: float, each_time: Callable[[], None], is_in_use: Callable[[], bool]) -> None:
        """Have every version removed. Waits for that, and for the owner to be gone, but no longer than this; begins
        when the owner is gone, or earlier if nothing is in use."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            each_time()
            seen = await self._observe()
            if seen is not None:
                if not seen.serve_running or (seen.owner is None and not seen.servables):
                    return
                if seen.owner is None or not is_in_use():
                    for servable, app in seen.servables.items():
                        if app.state is not AppState.DELETING:
                            await self._fleet.remove(servable)
            await asyncio.sleep(0.1)

    async def _observe(self) -> Observation | None:
        return await asyncio.to_thread(apps.observe, self._app)

    def _has_lost_its_owner(self, seen: Observation) -> bool:
        """Whether the application is going or gone: seen missing twice, as it is missing for a moment when replaced."""
        self._absences = self._absences + 1 if seen.owner is None else 0
        is_going = seen.owner is not None and seen.owner.state is AppState.DELETING
        return is_going or self._absences > 1 or not seen.serve_running

    def _patience(self) -> float:
        """How long until the next look: short where Serve is about to be done with something."""
        if self._absences or self._fleet.is_about_to_change:
            return _BUSY_S
        return _LOADING_S if self._fleet.is_waiting else _IDLE_S

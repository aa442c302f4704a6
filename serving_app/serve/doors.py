"""Where the replicas of all versions listen for lanes, as their reports tell: the controller's part of finding them.

Replicas report for as long as they are there (serving_app.serve.metering), also to a controller that has just started
again. So a door is known from a replica's first report, which comes before that of its load, until its good-bye or
until it has not been heard of for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving_app.core.door import Door
from serving_app.core.events import DoorsSeen, Event

_JOIN_S = 0.05
"""Each change means a route table for everybody; those that come within this time share one."""


class Doors:
    """The doors of one app. Lives on one event loop; events go to `emit`."""

    def __init__(self, emit: Callable[[Event], None], join_s: float = _JOIN_S) -> None:
        self._emit = emit
        self._join_s = join_s
        self._apps: dict[str, dict[str, Door]] = {}
        self._known: dict[str, Door] = {}
        self._changed: dict[str, None] = {}

    def note(self, process: str, door: Door | None) -> None:
        """A process is there, with this door if it has one."""
        if door is None or self._known.get(process) == door:
            return
        self.drop(process)
        self._known[process] = door
        self._apps.setdefault(door.app, {})[process] = door
        self._tell_soon(door.app)

    def drop(self, process: str) -> None:
        """A process is gone, or has not been heard of for long."""
        door = self._known.pop(process, None)
        if door is not None:
            del self._apps[door.app][process]
            self._tell_soon(door.app)

    def _tell_soon(self, app: str) -> None:
        if not self._changed:
            asyncio.get_running_loop().call_later(self._join_s, self._tell)
        self._changed[app] = None

    def _tell(self) -> None:
        changed, self._changed = self._changed, {}
        for app in changed:
            doors = self._apps[app]
            self._emit(DoorsSeen(app, tuple(doors[process] for process in sorted(doors))))
            if not doors:
                del self._apps[app]

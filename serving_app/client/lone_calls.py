"""Calls that nobody else of the process makes at the same time, made by the very thread that waits for the answer.

On the loop of links calls leave together, and answers come together, which many calls at a time gain by. One alone only
pays for it: it is handed to another thread and back, which takes longer than all else on its way. So it goes by a
connection of its own. Whatever is out of the ordinary is left to the loop: a replica that is busy or goes, a second
call, one that is to be copied.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

from serving_app.client.lane import LaneBusy, LaneLost, NotCarried
from serving_app.client.lane_set import LaneSet
from serving_app.client.wire import Wire
from serving_app.core.door import Door
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call

MOST_BYTES = 1 << 20
"""Larger calls gain nothing to speak of."""

MOST_S = 1e6
"""Calls that may take longer are left to the loop: the system counts milliseconds, and begins anew after 50 days."""

_CONNECT_S = 1.0
_SHUNNED_S = 10.0
"""How long a door is left to the loop behind which nobody answered."""


class NotHere(Exception):
    """The call is the loop's to make. `may_have_run` tells whether it was sent, and the replica lost under it."""

    def __init__(self, may_have_run: bool = False) -> None:
        super().__init__()
        self.may_have_run = may_have_run


class LoneCalls:
    """The connections for such calls of one link. Any thread may ask, and one at a time does."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._wires: dict[Door, Wire] = {}
        self._shunned: dict[Door, float] = {}
        self._doors: Collection[Door] = ()
        self._is_untidy = self._is_closed = False

    def ask(self, lanes: LaneSet, servable: ServableId | None, call: Call) -> Answer:
        """The answer of a replica that has nothing else of ours to do. Raises NotHere, TimeoutError after the call's
        timeout, or why the hop failed as a whole."""
        timeout = call.timeout
        if call.nbytes > MOST_BYTES or (timeout is not None and timeout > MOST_S):
            raise NotHere
        if self._is_closed or not self._busy.acquire(blocking=False):
            raise NotHere
        try:
            began = time.monotonic()
            wire = self._find(lanes, _CONNECT_S if timeout is None else min(timeout, _CONNECT_S))
            try:
                return wire.ask(call, servable, None if timeout is None else began + timeout - time.monotonic())
            except TimeoutError:
                self._shun(wire.door)
                raise
            except (LaneBusy, NotCarried):
                raise NotHere from None
            except LaneLost:
                raise NotHere(may_have_run=True) from None
        finally:
            self._busy.release()
            if self._is_untidy or self._is_closed:
                self._tidy_up()

    def follow(self, doors: Collection[Door]) -> None:
        """There are these doors now. Connections to others are closed, lest somebody who goes waits for us."""
        self._doors = doors
        self._tidy_up()

    def close(self) -> None:
        """Make no more calls; one that is under way is still answered."""
        self._is_closed = True
        self._tidy_up()

    def _tidy_up(self) -> None:
        """Close what nobody needs any more; while a thread makes a call here that is left to it."""
        self._is_untidy = True  # first: whoever is busy looks when it is no more
        if self._busy.acquire(blocking=False):
            try:
                self._is_untidy = False
                for door in [each for each in self._wires if self._is_closed or each not in self._doors]:
                    self._wires.pop(door).close()
            finally:
                self._busy.release()

    def _find(self, lanes: LaneSet, connect_s: float) -> Wire:
        door = lanes.find_idle()
        if door is None:
            raise NotHere
        wire = self._wires.get(door)
        if wire is not None:
            if wire.is_quiet:
                return wire
            self._wires.pop(door).close()
            raise NotHere
        if time.monotonic() < self._shunned.get(door, 0.0):
            raise NotHere
        try:
            wire = self._wires[door] = Wire(door, lanes.node, connect_s)
        except OSError:
            self._shun(door)
            raise NotHere from None
        return wire

    def _shun(self, door: Door) -> None:
        now = time.monotonic()
        self._wires.pop(door, None)
        self._shunned = {each: until for each, until in self._shunned.items() if until > now}
        self._shunned[door] = now + _SHUNNED_S

"""The lanes to the replicas of one version.

The route table names the doors of the replicas; here a task for each of them keeps a lane open, and tries again and
again where that fails. The table tells where to knock, and not who is there: replicas that go say so themselves or
close, and after a restart of the controller tables name no doors for a moment, during which open lanes go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Collection

from serving_app.client.lane import CONNECT_S, Lane, open_lane
from serving_app.core.door import Door

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
"""Between two attempts to open a lane."""

_COMPARED = 8
"""Up to so many lanes all of them are compared; of more, two that chance picks, which is nearly as good."""


class LaneSet:
    """Lanes of one version. Lives on one event loop."""

    def __init__(self, app: str, node: str | None) -> None:
        """`node` is where this process runs: UNIX sockets of other nodes are not for us."""
        self._app = app
        self.node = node
        self._keepers: dict[Door, asyncio.Task[None]] = {}
        self._untried: set[Door] = set()
        self._lanes: list[Lane] = []
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many lanes are open."""
        return len(self._lanes)

    def follow(self, doors: Collection[Door]) -> None:
        """Have a lane through each of these doors, and through no others; without any, keep what is there."""
        for door in doors:
            if door not in self._keepers:
                self._untried.add(door)
                self._keepers[door] = asyncio.get_running_loop().create_task(self._keep(door))
        for door in [each for each in self._keepers if each not in doors]:
            if doors or not any(lane.door == door for lane in self._lanes):
                self._keepers.pop(door).cancel()
        for lane in [each for each in self._lanes if each.door not in self._keepers]:
            lane.leave()

    async def prepare(self) -> None:
        """Wait a moment until each door is open, or was found shut."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                while self._untried & self._keepers.keys():
                    await self._wait_for_change()

    async def take(self) -> Lane | None:
        """The lane with the least to do; waits for room if all are full. None if there is no lane."""
        while True:
            lane = self._choose()
            if lane is not None or not any(each.is_open for each in self._lanes):
                return lane
            await self._wait_for_change()

    def find_idle(self) -> Door | None:
        """The door of some lane on which nothing is under way, if there is one. May be asked from any thread."""
        idle = [lane.door for lane in self._lanes.copy() if lane.has_room and not _load(lane)]
        return random.choice(idle) if idle else None

    def close(self) -> None:
        """Let go of all lanes; what is under way is still answered."""
        for keeper in self._keepers.values():
            keeper.cancel()
        self._keepers.clear()
        for lane in list(self._lanes):
            lane.leave()

    def _choose(self) -> Lane | None:
        lanes = self._lanes
        if len(lanes) == 1:
            return lanes[0] if lanes[0].has_room else None
        if len(lanes) > _COMPARED:
            two = [lane for lane in random.sample(lanes, 2) if lane.has_room]
            if two:
                return min(two, key=_load)
        free = [lane for lane in lanes if lane.has_room]
        if not free:
            return None
        fewest = min(map(_load, free))
        return random.choice([lane for lane in free if _load(lane) == fewest])

    async def _keep(self, door: Door) -> None:
        """Have a lane through this door until the replica says good-bye."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                lane = await open_lane(door, self.node, self._note_change)
            except (OSError, TimeoutError) as error:
                self._untried.discard(door)
                self._note_change()
                level = logging.WARNING if pause == _FIRST_PAUSE_S else logging.DEBUG  # once is enough
                logger.log(level, "%s: no lane to the replica %s: %r", self._app, door.replica, error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            pause = _FIRST_PAUSE_S
            self._untried.discard(door)
            self._lanes.append(lane)
            lane.ended.add_done_callback(lambda _, lane=lane: self._forget(lane))  # type: ignore[misc]
            self._note_change()
            await asyncio.shield(lane.ended)
            if lane.is_leaving:
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    def _forget(self, lane: Lane) -> None:
        self._lanes.remove(lane)
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _load(lane: Lane) -> int:
    return lane.calls + lane.unheard

"""What the controller knows of doors: from the first report of a replica to its end, told in few events."""

from __future__ import annotations

import asyncio

from serving_app.core.door import Door
from serving_app.core.events import DoorsSeen, Event
from serving_app.core.metrics import Snapshot
from serving_app.serve.doors import Doors
from serving_app.serve.metering import LEASE_S, Metering
from serving_app.serve.reporting import Report
from tests.stepping import until


def door(replica: str, app: str = "m@1", port: int = 1) -> Door:
    return Door(app, replica, "node", None, "127.0.0.1", port, b"secret")


def seen(event: Event) -> list[str]:
    assert isinstance(event, DoorsSeen)
    return [event.app, *(each.replica for each in event.doors)]


def test_changes_that_come_together_are_told_together() -> None:
    """Many replicas of one version that come and go in a moment are one event, with what is left; news of what is known
    are none."""

    async def scenario() -> None:
        told: list[Event] = []
        doors = Doors(told.append, 0.0)
        for name in ("b", "a", "c"):
            doors.note(name, door(name))
        doors.note("d", door("d", "m@2"))
        doors.drop("c")
        doors.drop("nobody")
        doors.note("e", None)
        await until(lambda: len(told) == 2)
        assert [seen(event) for event in told] == [["m@1", "a", "b"], ["m@2", "d"]]
        doors.note("a", door("a"))
        doors.note("b", door("b", port=2))
        doors.drop("d")
        await until(lambda: len(told) == 4)
        assert [seen(event) for event in told[2:]] == [["m@1", "a", "b"], ["m@2"]]
        assert doors._apps.keys() == {"m@1"}

    asyncio.run(scenario())


def test_a_door_is_known_as_long_as_its_replica_reports() -> None:
    """The first report opens it, also to a controller that has just started; a good-bye or a long silence closes it,
    and one that speaks again is back."""

    async def scenario() -> None:
        told: list[Event] = []
        now = 0.0
        metering = Metering("app", clock=lambda: now, pause_s=0.0, doors=Doors(told.append, 0.0))
        metering._restored.set()
        empty: Snapshot = {}

        async def report(name: str, number: int) -> None:
            await metering.report(name, Report(number, empty, empty, True, None, door(name)))

        async def news(*names: str) -> None:
            await until(lambda: bool(told))
            assert seen(told.pop()) == ["m@1", *names]

        await report("a", 1)
        await report("b", 1)
        await news("a", "b")
        await report("a", 2)
        assert not told
        now = 2 * LEASE_S
        await report("a", 3)
        metering.expire()
        await news("a")
        await report("b", 2)
        await news("a", "b")
        metering._bury("a", empty)
        await news("b")
        await report("a", 4)
        await asyncio.sleep(0)
        assert not told

    asyncio.run(scenario())
